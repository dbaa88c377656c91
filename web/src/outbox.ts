// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import type { Door, Outcome } from './door.js'
import type { Event, InvalidEvent } from './gen/telemetryintake/v1/telemetryintake_pb.js'

/** Why events are lost. */
export type DropReason =
  /** As many wait as may. */
  | 'full'
  /** The backend will never take them. */
  | 'refused'
  /** Recording was switched off while they waited. */
  | 'disabled'
  /** The recorder was closed before the backend could take them. */
  | 'closed'

export interface OutboxOptions {
  door: Door
  enabled: () => boolean
  onInvalid: (event: Event, why: InvalidEvent) => void
  onDropped: (count: number, reason: DropReason) => void
  flushInterval: number
  maxBatchEvents: number
  maxBatchBytes: number
  maxBufferedEvents: number
  maxBufferedBytes: number
}

/**
 * Browsers take requests that survive a page as long as the bodies of those
 * under way have at most so many bytes.
 */
const survivingBytes = 64 * 1024

/** The most that is around a batch's events: its key, and a client that backends take. */
const aroundBytes = 512

/** The most bytes of events that may be in a batch, so that it can survive the page. */
export const largestBatch = 60 * 1024

/** The mean wait before the second try is half of this, and doubles from there. */
const firstWait = 1_000
const longestWait = 60_000

/** How long after it was hidden a page may still be about to go, in milliseconds. */
const leavingTime = 1_000

/**
 * Outbox holds events until the backend has answered for them.
 *
 * Batches are sent in the order in which their events were recorded, one at a
 * time. What is in a batch is settled with the first try to send it, and so is
 * its key: the backend derives the events' IDs from both, and records each event
 * once however often it comes. Only that makes it right to send a batch again
 * whenever its fate is unknown, and to send a second copy of one that is on its
 * way when the page goes.
 */
export class Outbox {
  readonly #options: OutboxOptions
  readonly #batches: Batch[] = []
  #events = 0
  #bytes = 0
  /** How many bytes of copies that survive the page are on their way. */
  #surviving = 0
  /** How many tries in a row have failed. */
  #failures = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #wake: (() => void) | undefined
  #sending = false
  /** Set while the page may be about to go. */
  #leaving: ReturnType<typeof setTimeout> | undefined
  #warned = false
  /** Set when nothing is to be sent any more, or nothing again. */
  #over: 'refused' | 'closed' | undefined

  constructor(options: OutboxOptions) {
    this.#options = options
  }

  /** Takes an event that needs so many bytes in a request. */
  add(event: Event, bytes: number): void {
    const { maxBatchBytes, maxBatchEvents, maxBufferedBytes, maxBufferedEvents, flushInterval } = this.#options
    if (this.#over) {
      return this.#options.onDropped(1, this.#over)
    }
    if (this.#events >= maxBufferedEvents || this.#bytes + bytes > maxBufferedBytes) {
      return this.#options.onDropped(1, 'full')
    }
    let batch = this.#batches.at(-1)
    if (!batch || batch.key || batch.bytes + bytes > maxBatchBytes) {
      if (batch) {
        batch.due = true
      }
      batch = new Batch()
      this.#batches.push(batch)
    }
    batch.events.push(event)
    batch.bytes += bytes
    this.#events++
    this.#bytes += bytes
    if (batch.events.length >= maxBatchEvents) {
      // The next event begins another batch.
      batch.key = newKey()
      batch.due = true
    }
    if (this.#leaving && this.#failures === 0) {
      // The page may be gone before any other timer fires: listeners that hear
      // of its end after us record as well.
      queueMicrotask(() => this.#copyAll())
    } else if (this.#batches[0]?.due) {
      void this.#send()
    }
    if (!batch.due) {
      this.#timer ??= setTimeout(() => this.#sendAll(), flushInterval)
    }
  }

  /** Sends everything now. Resolves when it waits no more: sent, invalid or lost. */
  async flush(): Promise<void> {
    const waiting = this.#batches.map(batch => batch.settled)
    this.#sendAll()
    await Promise.all(waiting)
  }

  /** Sends everything as flush does, but once, and loses what is not taken. */
  close(): Promise<void> {
    this.#over ??= 'closed'
    this.#wake?.()
    return this.flush()
  }

  /** Sends what it can so that it arrives even if this page is never seen again. */
  hide(): void {
    clearTimeout(this.#leaving)
    this.#leaving = setTimeout(() => {
      this.#leaving = undefined
    }, leavingTime)
    this.#copyAll()
  }

  #copyAll(): void {
    if (!this.permitted()) {
      return
    }
    for (const batch of this.#batches) {
      if (batch.copy) {
        continue
      }
      if (this.#surviving + batch.bytes + aroundBytes > survivingBytes) {
        break // it goes the usual way, if the page lives
      }
      this.#copy(batch)
    }
    this.#sendAll()
  }

  #sendAll(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const batch of this.#batches) {
      batch.due = true
    }
    void this.#send()
  }

  async #send(): Promise<void> {
    if (this.#sending) {
      return
    }
    this.#sending = true
    for (let batch; (batch = this.#batches[0])?.due && this.permitted(); ) {
      await this.#try(batch)
    }
    this.#sending = false
  }

  /** Sends a batch once, and waits for as long as must be waited if that fails. */
  async #try(batch: Batch): Promise<void> {
    batch.key ??= newKey()
    const sent = batch.copy ?? this.#options.door.send(batch.key, batch.events, batch.abort.signal)
    const outcome = await Promise.race([sent, batch.settled])
    if (outcome?.kind !== 'unknown') {
      return outcome && this.#conclude(batch, outcome)
    }
    if (this.#over) {
      return this.#drop([batch], this.#over)
    }
    const longest = Math.min(firstWait * 2 ** this.#failures++, longestWait)
    let timer
    await Promise.race([
      batch.settled,
      new Promise<void>(resolve => {
        this.#wake = resolve
        timer = setTimeout(resolve, outcome.after + Math.random() * longest)
      }),
    ])
    clearTimeout(timer)
    this.#wake = undefined
  }

  /** Sends a batch so that it survives the page. */
  #copy(batch: Batch): void {
    const bytes = batch.bytes + aroundBytes
    batch.key ??= newKey()
    this.#surviving += bytes
    batch.copy = this.#options.door.sendSurviving(batch.key, batch.events).then(outcome => {
      this.#surviving -= bytes
      batch.copy = undefined
      this.#conclude(batch, outcome)
      return outcome
    })
  }

  /** Does what an outcome calls for, unless another copy of the batch had one. */
  #conclude(batch: Batch, outcome: Outcome): void {
    if (!this.#batches.includes(batch) || outcome.kind === 'unknown') {
      return
    }
    this.#failures = 0
    if (outcome.kind === 'answered') {
      this.#settle(batch)
      for (const why of outcome.invalid) {
        const event = batch.events[why.index]
        if (event) {
          this.#options.onInvalid(event, why)
        }
      }
      return
    }
    if (outcome.forGood) {
      this.#over = 'refused'
    }
    if (outcome.forGood || !this.#warned) {
      console.warn(`telemetry: ${outcome.forGood ? 'recording ends' : 'events are lost'}: ${outcome.message}`)
      this.#warned = true
    }
    this.#drop(outcome.forGood ? [...this.#batches] : [batch], 'refused')
  }

  /** Tells whether recording is still switched on. If not, nothing waits any more. */
  permitted(): boolean {
    const permitted = this.#options.enabled()
    if (!permitted) {
      this.#drop([...this.#batches], 'disabled')
    }
    return permitted
  }

  #drop(batches: Batch[], reason: DropReason): void {
    let count = 0
    for (const batch of batches) {
      count += batch.events.length
      this.#settle(batch)
    }
    if (count > 0) {
      this.#options.onDropped(count, reason)
    }
  }

  #settle(batch: Batch): void {
    this.#batches.splice(this.#batches.indexOf(batch), 1)
    this.#events -= batch.events.length
    this.#bytes -= batch.bytes
    batch.settle()
    if (this.#batches.length === 0) {
      clearTimeout(this.#timer)
      this.#timer = undefined
    }
  }
}

/** Batch is what is sent at once. */
class Batch {
  readonly events: Event[] = []
  readonly abort = new AbortController()
  readonly settled: Promise<undefined>
  bytes = 0
  /** Unset as long as events may join. */
  key: string | undefined
  /** Set when it has waited long enough for others. */
  due = false
  /** A copy that survives the page, while it is on its way. */
  copy: Promise<Outcome> | undefined
  #resolve!: (_: undefined) => void

  constructor() {
    this.settled = new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  /** Ends it: whatever of it is still on its way need not be waited for. */
  settle(): void {
    this.abort.abort()
    this.#resolve(undefined)
  }
}

/** A random key. crypto.randomUUID is only there on pages that came by HTTPS. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('')
}
