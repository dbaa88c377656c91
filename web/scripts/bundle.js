// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Makes dist/bundle.js, for pages that have no bundler of their own: the package
// and what it depends on as one module.
import { readFile } from 'node:fs/promises'

import { build } from 'esbuild'

// The dependencies' licences ask that their notices go with them. These files
// have one of each.
const notices = await Promise.all(
  [
    'dist/index.js',
    'node_modules/@bufbuild/protobuf/dist/esm/create.js',
    'node_modules/@bufbuild/protobuf/dist/esm/wire/varint.js',
    'node_modules/@connectrpc/connect/dist/esm/connect-error.js',
  ].map(async file => /^(\/\/.*\n)+/.exec(await readFile(file, 'utf8'))[0]),
)

await build({
  entryPoints: ['dist/index.js'],
  outfile: 'dist/bundle.js',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  banner: { js: notices.join('\n') },
  logLevel: 'warning',
})
