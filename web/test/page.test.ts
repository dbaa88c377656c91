// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, mock, test } from 'node:test'

import { Recorder, type RecorderOptions } from '@telemetrygateway/web'

import { Backend, gate, settled, until } from './backend.js'

let backend: Backend
let recorder: Recorder | undefined
/** How each request was made. */
let requests: { keepalive: boolean; bytes: number }[] = []

// A page's document and window, as far as a recorder looks at them. What they
// do when a real page goes is for the journey to show, in a real browser.
const page = Object.assign(new EventTarget(), { visibilityState: 'visible' })
const browser = globalThis as unknown as {
  document?: EventTarget
  addEventListener?: EventTarget['addEventListener']
}

function hide(): void {
  page.visibilityState = 'hidden'
  page.dispatchEvent(new Event('visibilitychange'))
}

before(async () => {
  backend = await Backend.start()
  browser.document = page
  browser.addEventListener = page.addEventListener.bind(page)
})
after(() => backend.stop())

beforeEach(() => {
  requests = []
  const { fetch } = globalThis
  mock.method(globalThis, 'fetch', (url: string, init: RequestInit) => {
    requests.push({ keepalive: init.keepalive ?? false, bytes: (init.body as Uint8Array).length })
    return fetch(url, init)
  })
})
afterEach(async () => {
  backend.faults = []
  page.visibilityState = 'visible'
  await recorder?.close()
  mock.reset()
  await backend.reset()
})

function open(o: Partial<RecorderOptions> = {}): Recorder {
  recorder = new Recorder({ client: { name: 'shop.web' }, baseUrl: backend.url, flushInterval: 2 ** 30, enabled: () => true, ...o })
  return recorder
}

for (const news of ['visibilitychange', 'pagehide', 'freeze']) {
  test(`what waits is sent at once on ${news}, so that it survives the page`, async () => {
    const recorder = open()
    recorder.record('cart', 'opened')
    recorder.record('cart', 'closed')
    if (news === 'visibilitychange') {
      page.visibilityState = 'hidden'
    }
    page.dispatchEvent(new Event(news))
    // Nothing of the page may run after this.
    assert.deepEqual(requests.map(({ keepalive }) => keepalive), [true])
    await until(() => backend.stored.length === 2)
    await recorder.flush()
    assert.equal(requests.length, 1)
  })
}

test('what other listeners record at the end is sent as well', async () => {
  const recorder = open()
  recorder.record('page', 'viewed')
  page.addEventListener('pagehide', () => recorder.record('page', 'left'), { once: true })
  hide()
  page.dispatchEvent(new Event('pagehide'))
  await null // what listeners put off until they are done
  assert.deepEqual(requests.map(({ keepalive }) => keepalive), [true, true])
  await until(() => backend.stored.length === 2)
})

test('what is under way is sent once more under its key, and recorded once', async () => {
  const held = gate()
  backend.faults = [held]
  const recorder = open()
  recorder.record('cart', 'opened')
  const flushed = recorder.flush()
  await until(() => backend.sent.length === 1)
  recorder.record('cart', 'closed')
  hide()
  assert.deepEqual(requests.map(({ keepalive }) => keepalive), [false, true, true])
  await flushed // by the copy: the first one is still held
  held.open()
  await recorder.flush()
  await until(() => backend.open === 0)
  assert.deepEqual(backend.sent.map(({ events }) => events), [['cart/opened'], ['cart/opened'], ['cart/closed']])
  assert.equal(backend.sent[1]!.key, backend.sent[0]!.key)
  assert.deepEqual([...backend.names].sort(), ['cart/closed', 'cart/opened'])
})

test('what waits for its next try does not wait any longer', async () => {
  const failure = mock.method(Math, 'random', () => 1)
  backend.faults = [{ answer: 503, headers: { 'Retry-After': '3600' } }]
  const recorder = open()
  recorder.record('cart', 'opened')
  const flushed = recorder.flush()
  await until(() => failure.mock.callCount() === 1)
  hide()
  await flushed
  assert.equal(backend.sent[1]!.key, backend.sent[0]!.key)
  assert.deepEqual(requests.map(({ keepalive }) => keepalive), [false, true])
  recorder.record('cart', 'closed')
  await recorder.flush()
  await until(() => backend.stored.length === 2)
})

test('browsers are never asked for more than they give requests that survive', async () => {
  const held = [gate(), gate(), gate()]
  backend.faults = [...held]
  const recorder = open()
  for (let i = 0; i < 30; i++) {
    recorder.record('cart', 'opened', { metadata: { i }, privateMetadata: { note: 'x'.repeat(5_000) } })
  }
  await until(() => backend.sent.length === 1) // a full one, the usual way
  hide()
  page.dispatchEvent(new Event('pagehide'))
  const surviving = requests.filter(({ keepalive }) => keepalive)
  assert.ok(surviving.length > 1)
  assert.ok(surviving.reduce((sum, { bytes }) => sum + bytes, 0) < 64 * 1024)
  // The rest goes the usual way, as the page lives.
  held.forEach(({ open }) => open())
  await recorder.flush()
  await until(() => backend.stored.length === 30)
  assert.deepEqual(new Set(backend.stored.map((event: any) => event.parameters.metadata.i ?? 0)).size, 30)
})

test('however small the batches are', async () => {
  const recorder = open({ maxBatchEvents: 1, client: { name: 'n'.repeat(200), version: '1' } })
  backend.faults = [gate()]
  for (let i = 0; i < 200; i++) {
    recorder.record('cart', 'opened', { privateMetadata: { note: 'x'.repeat(200) } })
  }
  hide()
  const surviving = requests.filter(({ keepalive }) => keepalive)
  assert.ok(surviving.reduce((sum, { bytes }) => sum + bytes, 0) < 64 * 1024)
  await recorder.flush()
  await until(() => backend.stored.length === 200)
})

test('while a hidden page cannot reach the backend, it waits like any other', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const failure = mock.method(Math, 'random', () => 1)
  await backend.store('off')
  const recorder = open()
  recorder.record('cart', 'opened')
  hide()
  await until(() => failure.mock.callCount() === 1)
  for (let i = 0; i < 10; i++) {
    recorder.record('cart', 'looked')
    await settled()
  }
  assert.equal(backend.sent.length, 1)
  await backend.store('on')
  mock.timers.tick(60_000)
  void recorder.flush()
  await until(() => backend.stored.length === 11)
})

test('a page that comes back, or lives on in the background, goes on', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const recorder = open()
  recorder.record('cart', 'opened')
  page.dispatchEvent(new Event('pagehide'))
  await until(() => backend.stored.length === 1)
  mock.timers.tick(1_000)
  recorder.record('cart', 'closed')
  await settled()
  assert.equal(requests.length, 1) // it waits for company again
  await recorder.flush()
  await until(() => backend.stored.length === 2)
})

test('a closed recorder listens no more', async () => {
  const enabled = mock.fn(() => true)
  const recorder = open({ enabled })
  await recorder.close()
  const asked = enabled.mock.callCount()
  hide()
  page.dispatchEvent(new Event('pagehide'))
  page.dispatchEvent(new Event('freeze'))
  assert.equal(enabled.mock.callCount(), asked)
})

test('a browser that cannot do that sends a beacon, and makes sure if it lives', async () => {
  const beacons: { url: string; body: Blob }[] = []
  const navigator = Object.getOwnPropertyDescriptor(globalThis, 'navigator')
  Object.defineProperty(globalThis, 'navigator', {
    configurable: true,
    value: { sendBeacon: (url: string, body: Blob) => beacons.push({ url, body }) },
  })
  const keepalive = Object.getOwnPropertyDescriptor(Request.prototype, 'keepalive')!
  delete (Request.prototype as { keepalive?: boolean }).keepalive
  try {
    mock.timers.enable({ apis: ['setTimeout'] })
    mock.method(Math, 'random', () => 0)
    const recorder = open({ baseUrl: `${backend.url}/` })
    recorder.record('cart', 'opened')
    hide()
    page.dispatchEvent(new Event('pagehide'))
    assert.deepEqual([beacons.length, requests.length], [1, 0])
    // What a browser makes of it arrives like any request.
    const { url, body } = beacons[0]!
    const answer = await fetch(url, { method: 'POST', body: new Uint8Array(await body.arrayBuffer()), headers: { 'Content-Type': body.type } })
    assert.equal(answer.status, 200)
    await until(() => backend.stored.length === 1)
    await settled()
    assert.equal(backend.sent.length, 1)
    mock.timers.tick(60_000)
    await settled()
    mock.timers.tick(60_000)
    await recorder.flush()
    assert.equal(backend.sent.length, 2)
    assert.equal(backend.sent[1]!.key, backend.sent[0]!.key)
    recorder.record('cart', 'closed')
    await recorder.flush()
    await until(() => backend.stored.length === 2)
    assert.deepEqual(backend.names, ['cart/opened', 'cart/closed'])
  } finally {
    Object.defineProperty(Request.prototype, 'keepalive', keepalive)
    if (navigator) {
      Object.defineProperty(globalThis, 'navigator', navigator)
    } else {
      delete (globalThis as { navigator?: unknown }).navigator
    }
  }
})
