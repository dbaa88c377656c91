// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

'use strict'

// The package is published as CommonJS for bundlers. This stands in for one, so
// that the browser runs the very files that are published: each is fetched and
// run once. The server redirects a module's name to its file.
const modules = new Map()

function load(url) {
  const request = new XMLHttpRequest()
  request.open('GET', url, false)
  request.send()
  if (request.status !== 200) {
    throw new Error(`${url}: ${request.status}`)
  }
  const file = request.responseURL
  if (!modules.has(file)) {
    const module = { exports: {} }
    modules.set(file, module)
    const run = new Function('exports', 'module', 'require', `${request.responseText}\n//# sourceURL=${file}`)
    run(module.exports, module, name => load(new URL(name, file)))
  }
  return modules.get(file).exports
}
