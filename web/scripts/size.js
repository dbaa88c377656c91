// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// Prints what the package adds to a page, with everything that it depends on,
// and fails if the README says otherwise.
import { readFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'

const bundle = await readFile('dist/bundle.js')
const size = `${kilobytes(bundle)} kB minified, ${kilobytes(gzipSync(bundle, { level: 9 }))} kB with gzip`
console.log(size)
if (!(await readFile('README.md', 'utf8')).includes(`${size}`)) {
  console.error(`README.md does not say "${size}"`)
  process.exit(1)
}

function kilobytes(bytes) {
  return Math.round(bytes.length / 1000)
}
