// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, mock, test } from 'node:test'

import { type InvalidEvent, Recorder, type RecorderOptions } from '@telemetrygateway/web'

import { Backend, gate, settled, until } from './backend.js'

let backend: Backend
const client = { name: 'shop.web', version: '1.4.0' }
const recorders: Recorder[] = []

before(async () => {
  backend = await Backend.start()
  // The network's own timers are made with the first request, and not by it
  // while a test has its hands on the clock.
  await new Recorder({ client, baseUrl: backend.url, flushInterval: 0 }).close()
})
after(() => backend.stop())

beforeEach(() => backend.reset())
afterEach(async () => {
  mock.reset()
  await backend.reset()
  await Promise.all(recorders.splice(0).map(recorder => recorder.close()))
})

/** A recorder that sends when it is told to, unless o says otherwise. */
function open(o: Partial<RecorderOptions> = {}): Recorder {
  const recorder = new Recorder({ client, baseUrl: backend.url, flushInterval: 2 ** 30, enabled: () => true, ...o })
  recorders.push(recorder)
  return recorder
}

/** All warnings from now on. */
function warnings(): string[] {
  const texts: string[] = []
  mock.method(console, 'warn', (...args: unknown[]) => texts.push(args.join(' ')))
  return texts
}

test('what is recorded arrives, with everything that is known of it', async () => {
  const recorder = open({ marketingTracking: () => ({ url: 'https://shop.example/', cohortId: '2026-01' }) })
  const privateMetadata = { sku: 'A-17', sizes: [1, { of: null }], at: new Date(0) }
  const earliest = new Date().toISOString()
  recorder.record('cart', 'itemAdded', {
    version: 3,
    metadata: { price: 12.5, gift: true, wrapped: false, coupon: undefined },
    privateMetadata,
    billing: { product: 'shop', category: 'core' },
    interactionId: 'a-search',
  })
  const latest = new Date().toISOString()
  privateMetadata.sku = 'changed after it was recorded'
  await recorder.flush()
  await until(() => backend.stored.length === 1)
  const { id, timestamp, ...event } = backend.stored[0]!
  assert.equal(id.length, 36)
  assert.ok(earliest <= timestamp && timestamp <= latest, `${earliest} ${timestamp} ${latest}`)
  assert.deepEqual(event, {
    feature: 'cart',
    action: 'itemAdded',
    source: { server: { version: '1.2.3' }, client },
    parameters: {
      version: 3,
      metadata: { price: 12.5, gift: 1, wrapped: 0 },
      privateMetadata: { sku: 'A-17', sizes: [1, { of: null }], at: '1970-01-01T00:00:00.000Z' },
      billingMetadata: { product: 'shop', category: 'core' },
    },
    user: { anonymousUserId: 'a-visitor' },
    marketingTracking: { url: 'https://shop.example/', cohortId: '2026-01' },
    interaction: { interactionId: 'a-search' },
  })
})

test('an event waits for others, but not for long', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const recorder = open({ flushInterval: 1_000 })
  recorder.record('cart', 'opened')
  mock.timers.tick(999)
  recorder.record('cart', 'closed')
  assert.equal(backend.sent.length, 0)
  mock.timers.tick(1)
  await until(() => backend.stored.length === 2)
  assert.deepEqual(backend.sent.map(({ events }) => events), [['cart/opened', 'cart/closed']])
})

test('a batch is sent as soon as it has as many events as it may', async () => {
  const recorder = open({ maxBatchEvents: 2 })
  recorder.record('cart', 'opened')
  recorder.record('cart', 'closed')
  recorder.record('cart', 'reopened')
  await until(() => backend.stored.length === 2)
  assert.equal(backend.sent.length, 1)
  await recorder.flush()
  assert.deepEqual(backend.sent.map(({ events }) => events.length), [2, 1])
})

test('no batch has more bytes than it may', async () => {
  const recorder = open({ maxBatchBytes: 10_000 })
  for (let i = 0; i < 10; i++) {
    recorder.record('cart', 'opened', { privateMetadata: { note: 'é'.repeat(1_400) } })
  }
  await recorder.flush()
  assert.deepEqual(backend.sent.map(({ events }) => events.length), [3, 3, 3, 1])
  // What is around the events is not counted.
  assert.ok(backend.sent.every(({ bytes }) => bytes < 10_000), JSON.stringify(backend.sent.map(({ bytes }) => bytes)))
})

test('one request is under way at a time, and events stay in order', async () => {
  const held = gate()
  backend.faults = [held]
  const recorder = open({ maxBatchEvents: 1 })
  const actions = ['opened', 'closed', 'emptied', 'paid'] as const
  for (const action of actions) {
    recorder.record('cart', action)
  }
  await until(() => backend.sent.length === 1)
  held.open()
  await recorder.flush()
  await until(() => backend.stored.length === 4)
  assert.deepEqual(backend.names, actions.map(action => `cart/${action}`))
  assert.equal(backend.mostOpen, 1)
})

test('a batch whose answer is lost is sent again and recorded once', async () => {
  mock.method(Math, 'random', () => 0)
  backend.faults = ['lose-answer', 'lose-answer']
  const recorder = open()
  recorder.record('cart', 'opened')
  recorder.record('cart', 'closed')
  const flushed = recorder.flush()
  recorder.record('cart', 'emptied') // does not join what is on its way
  await flushed
  await recorder.flush()
  const [first, second, third, fourth] = backend.sent
  assert.equal(backend.sent.length, 4)
  assert.match(first!.key, /^[0-9a-f]{32}$/)
  assert.deepEqual([second!.key, third!.key], [first!.key, first!.key])
  assert.deepEqual(third!.events, first!.events)
  assert.notEqual(fourth!.key, first!.key)
  await until(() => backend.stored.length === 3)
  assert.deepEqual(backend.names, ['cart/opened', 'cart/closed', 'cart/emptied'])
  assert.equal(recorder.dropped, 0)
})

test('retries wait longer and longer, and never end', async () => {
  const waits = clock()
  await backend.store('off')
  const recorder = open()
  recorder.record('cart', 'opened')
  void recorder.flush()
  for (const wait of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    await waits(wait)
  }
  await waits(30_000, () => backend.store('on'))
  await recorder.flush()
  await until(() => backend.stored.length === 1)
  assert.equal(new Set(backend.sent.map(({ key }) => key)).size, 1)

  // The next failure is a first one again.
  await backend.store('off')
  recorder.record('cart', 'opened')
  void recorder.flush()
  await waits(500)
})

test('retries wait for as long as the backend asks', async () => {
  const waits = clock()
  const in90s = new Date(Date.now() + 90_000).toUTCString()
  backend.faults = [in90s, '120', 'soon', '-1', '1e99'].map(after => ({ answer: 503, headers: { 'Retry-After': after } }))
  const recorder = open()
  recorder.record('cart', 'opened')
  const flushed = recorder.flush()
  await waits(90_500)
  await waits(121_000)
  await waits(2_000)
  await waits(4_000)
  await waits(3_608_000) // an hour at most
  await flushed
  await until(() => backend.stored.length === 1)
})

/**
 * Stops the clock. What it returns expects a recorder to wait for so many
 * milliseconds after a failure, where it may choose between 0 and twice as many.
 * Meanwhile something may be done.
 */
function clock(): (milliseconds: number, meanwhile?: () => Promise<void>) => Promise<void> {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.parse('2026-02-03T04:05:00Z') })
  const choice = mock.method(Math, 'random', () => 0.5)
  let choices = 0
  return async (milliseconds, meanwhile) => {
    choices++
    await until(() => choice.mock.callCount() === choices)
    await meanwhile?.()
    const tries = backend.sent.length
    mock.timers.tick(milliseconds - 1)
    await settled()
    assert.equal(backend.sent.length, tries, `tried again before ${milliseconds} ms`)
    mock.timers.tick(1)
    await until(() => backend.sent.length === tries + 1)
  }
}

test('while batches wait, events go on to fill them', async () => {
  mock.method(Math, 'random', () => 0)
  const held = gate()
  backend.faults = [held]
  const recorder = open({ flushInterval: 1 })
  recorder.record('cart', 'opened')
  await until(() => backend.sent.length === 1)
  for (let i = 0; i < 20; i++) {
    recorder.record('cart', 'looked')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
  held.open()
  await recorder.flush()
  assert.deepEqual(backend.sent.map(({ events }) => events.length), [1, 20])
})

test('an invalid event is reported once and spoils no other', async () => {
  const invalid: InvalidEvent[] = []
  const recorder = open({ onInvalid: event => invalid.push(event) })
  recorder.record('cart', 'opened')
  recorder.record('Cart' as 'cart', 'opened')
  recorder.record('cart', 'weighed', { metadata: { kilograms: NaN } })
  recorder.record('cart', 'closed')
  await recorder.flush()
  await recorder.flush()
  await until(() => backend.stored.length === 2)
  assert.deepEqual(backend.names, ['cart/opened', 'cart/closed'])
  assert.deepEqual(
    invalid.map(({ feature, action, reason, field }) => [feature, action, reason, field]),
    [
      ['Cart', 'opened', 'feature_invalid', 'feature'],
      ['cart', 'weighed', 'not_finite', 'parameters.metadata'],
    ],
  )
  assert.equal(backend.sent.length, 1)
  assert.equal(recorder.dropped, 0)
})

test('the console hears of an invalid event if nobody else does', async () => {
  const warned = warnings()
  const recorder = open()
  recorder.record('cart', 'opened', { metadata: { price: Infinity } })
  await recorder.flush()
  assert.equal(warned.length, 1)
  assert.match(warned[0]!, /cart\/opened is not recorded: not_finite: parameters\.metadata/)
})

test('record never throws, whatever it is given', async () => {
  const invalid: string[] = []
  const recorder = open({
    onInvalid: ({ reason }) => {
      invalid.push(reason)
      throw new Error('in the page')
    },
  })
  const warned = warnings()
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  recorder.record('cart', 'opened', { privateMetadata: { cycle } })
  recorder.record('cart', 'opened', { privateMetadata: { big: 1n } })
  recorder.record('cart', 'opened', { version: 0.5 })
  recorder.record('cart', 'opened', { metadata: { a: 'text' as unknown as number } })
  recorder.record(undefined as unknown as 'cart', 'opened')
  recorder.record('cart', 'opened', null as unknown as undefined)
  recorder.record('cart', 'opened', { privateMetadata: { note: 'x'.repeat(60 * 1024) } })
  recorder.record('cart', 'opened', { privateMetadata: { half: '\ud83d', f: () => {}, nothing: undefined } })
  await recorder.flush()
  await until(() => backend.stored.length > 0)
  assert.deepEqual(backend.names, ['cart/opened'])
  assert.deepEqual((backend.stored[0] as any).parameters.privateMetadata, { half: '\ufffd' })
  assert.deepEqual(invalid, [
    ...['undecodable', 'undecodable', 'undecodable', 'undecodable', 'too_large'], // by the recorder, at once
    ...['not_finite', 'feature_invalid'], // by the backend
  ])
  assert.equal(warned.length, 7) // of onInvalid's own errors
})

for (const [name, fault] of Object.entries({
  'a permission that is denied': { answer: 403, body: '{"code":"permission_denied"}', headers: { 'Content-Type': 'application/json' } },
  'a path that nothing is at': { answer: 404, body: 'not found' },
})) {
  test(`${name} ends it, with one warning`, async () => {
    const warned = warnings()
    const dropped: unknown[] = []
    backend.faults = [fault]
    const recorder = open({ maxBatchEvents: 2, onDropped: (count, reason) => dropped.push([count, reason]) })
    for (let i = 0; i < 5; i++) {
      recorder.record('cart', 'opened')
    }
    await recorder.flush()
    recorder.record('cart', 'opened')
    await recorder.flush()
    assert.equal(backend.sent.length, 1)
    assert.equal(warned.length, 1)
    assert.deepEqual(dropped, [[5, 'refused'], [1, 'refused']])
    assert.equal(recorder.dropped, 6)
  })
}

for (const [name, fault] of Object.entries({
  'by the backend': { answer: 400, body: '{"code":"invalid_argument"}', headers: { 'Content-Type': 'application/json' } },
  'on the way there': { answer: 413, body: '<h1>Too large</h1>', headers: { 'Content-Type': 'text/html' } },
})) {
  test(`a batch that is refused ${name} does not hold up others`, async () => {
    const warned = warnings()
    backend.faults = [fault, fault]
    const recorder = open({ maxBatchEvents: 2 })
    for (let i = 0; i < 5; i++) {
      recorder.record('cart', 'opened')
    }
    await recorder.flush()
    await until(() => backend.stored.length === 1)
    assert.equal(backend.sent.length, 3)
    assert.equal(recorder.dropped, 4)
    assert.equal(warned.length, 1)
  })
}

test('what waits is bounded, and what is lost is counted', async () => {
  const held = gate()
  for (const limit of [{ maxBufferedEvents: 3 }, { maxBufferedBytes: 3_500 }]) {
    backend.stored.length = 0
    backend.faults = [held]
    const dropped: unknown[] = []
    const recorder = open({ ...limit, maxBatchEvents: 2, onDropped: (count, reason) => dropped.push([count, reason]) })
    for (let i = 0; i < 5; i++) {
      recorder.record('cart', 'opened', { metadata: { i }, privateMetadata: { note: 'x'.repeat(1_000) } })
    }
    assert.deepEqual(dropped, [[1, 'full'], [1, 'full']])
    held.open()
    await recorder.flush()
    recorder.record('cart', 'opened', { metadata: { i: 5 } })
    await recorder.flush()
    await until(() => backend.stored.length === 4)
    assert.deepEqual(backend.stored.map((event: any) => event.parameters.metadata.i), [0, 1, 2, 5])
    assert.equal(recorder.dropped, 2)
  }
})

test('nothing is recorded while recording is switched off, and nothing sent', async () => {
  let enabled = false
  const dropped: unknown[] = []
  const recorder = open({ enabled: () => enabled, onDropped: (count, reason) => dropped.push([count, reason]) })
  recorder.record('cart', 'opened')
  await recorder.flush()
  assert.deepEqual([backend.sent.length, dropped], [0, []])
  enabled = true
  recorder.record('cart', 'opened')
  recorder.record('cart', 'closed')
  enabled = false
  await recorder.flush()
  assert.deepEqual([backend.sent.length, dropped], [0, [[2, 'disabled']]])
  enabled = true
  recorder.record('cart', 'reopened')
  await recorder.flush()
  await until(() => backend.stored.length === 1)
  assert.deepEqual(backend.names, ['cart/reopened'])
})

test('what waits when somebody says no is not sent if they say yes again', async () => {
  let enabled = true
  const dropped: unknown[] = []
  const recorder = open({ enabled: () => enabled, onDropped: (count, reason) => dropped.push([count, reason]) })
  recorder.record('cart', 'opened')
  enabled = false
  recorder.record('cart', 'closed')
  enabled = true
  recorder.record('cart', 'reopened')
  await recorder.flush()
  await until(() => backend.stored.length > 0)
  assert.deepEqual(backend.names, ['cart/reopened'])
  assert.deepEqual(dropped, [[1, 'disabled']])
})

test('by default, a browser that asks not to track is not recorded', async () => {
  for (const asks of [{ doNotTrack: '1' }, { globalPrivacyControl: true }, { doNotTrack: '0' }]) {
    const navigator = Object.getOwnPropertyDescriptor(globalThis, 'navigator')
    Object.defineProperty(globalThis, 'navigator', { value: asks, configurable: true })
    const recorder = open({ enabled: undefined })
    recorder.record('cart', 'opened')
    await recorder.flush()
    if (navigator) {
      Object.defineProperty(globalThis, 'navigator', navigator)
    } else {
      delete (globalThis as { navigator?: unknown }).navigator
    }
  }
  assert.equal(backend.sent.length, 1)
})

test('close sends once what waits, and records nothing more', async () => {
  const dropped: unknown[] = []
  const recorder = open({ maxBatchEvents: 1, onDropped: (count, reason) => dropped.push([count, reason]) })
  mock.timers.enable({ apis: ['setTimeout'] })
  const failure = mock.method(Math, 'random', () => 1)
  backend.faults = [{ answer: 503 }, { answer: 503 }]
  recorder.record('cart', 'opened')
  recorder.record('cart', 'closed')
  recorder.record('cart', 'emptied')
  await until(() => failure.mock.callCount() === 1) // it waits now
  await recorder.close()
  recorder.record('cart', 'opened')
  await until(() => backend.stored.length === 2)
  assert.deepEqual(backend.names, ['cart/closed', 'cart/emptied'])
  assert.deepEqual(dropped, [[1, 'closed'], [1, 'closed']])
})

test('nothing keeps running when nothing waits', async () => {
  const before = timeouts()
  const recorder = open({ maxBatchEvents: 2 })
  assert.equal(timeouts(), before)
  recorder.record('cart', 'opened')
  assert.equal(timeouts(), before + 1)
  recorder.record('cart', 'closed')
  await until(() => backend.stored.length === 2 && timeouts() === before)
})

function timeouts(): number {
  return process.getActiveResourcesInfo().filter(resource => resource === 'Timeout').length
}

for (const baseUrl of [undefined, '/telemetry', 'no address']) {
  test(`where there is no page, nothing waits for ever to be sent to ${baseUrl}`, async () => {
    const warned = warnings()
    const recorder = open({ baseUrl })
    recorder.record('cart', 'opened')
    await recorder.flush()
    assert.equal(recorder.dropped, 1)
    assert.match(warned.join(), /recording ends: .*baseUrl/)
  })
}

test('requests carry what interceptors add', async () => {
  const recorder = open({
    interceptors: [
      next => request => {
        request.header.set('Authorization', 'Bearer of-the-user')
        return next(request)
      },
    ],
  })
  recorder.record('cart', 'opened')
  await recorder.flush()
  assert.equal(backend.sent[0]!.headers.authorization, 'Bearer of-the-user')
})
