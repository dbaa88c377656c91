// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import { create, type JsonObject, toBinary } from '@bufbuild/protobuf'
import { timestampNow } from '@bufbuild/protobuf/wkt'
import type { Interceptor } from '@connectrpc/connect'

import type { Constant, ConstantKeys, Name } from './constant.js'
import { Door } from './door.js'
import { EventSchema } from './gen/telemetryintake/v1/telemetryintake_pb.js'
import { type DropReason, largestBatch, Outbox } from './outbox.js'

export interface RecorderOptions {
  /** What the user sees, such as `{ name: 'shop.web', version: '1.4.0' }`. */
  client: { name: string; version?: string }
  /** Where the backend has its intake. The page's own origin unless set. */
  baseUrl?: string
  /**
   * Whether to record; asked at each event, and again before anything is sent.
   * Unless set, events are recorded unless the browser asks not to track.
   */
  enabled?: () => boolean
  /** Where the user came from; asked at each event. */
  marketingTracking?: () => MarketingTracking
  /** Told once of each event that breaks a rule. Unless set, the console is. */
  onInvalid?: (event: InvalidEvent) => void
  /** Told how many events are lost, and why. See also Recorder.dropped. */
  onDropped?: (count: number, reason: DropReason) => void
  /** Whether cookies are sent. 'same-origin' unless set; beacons always have them. */
  credentials?: 'same-origin' | 'include' | 'omit'
  /** Connect's, for headers such as Authorization. Beacons have none of them. */
  interceptors?: Interceptor[]
  /** How long an event waits for others, in milliseconds: 1,000 unless set. */
  flushInterval?: number
  /** The most events sent at once: 100 unless set. Backends take up to 500. */
  maxBatchEvents?: number
  /** The most bytes sent at once: 30 KiB unless set, and at most 60 KiB. */
  maxBatchBytes?: number
  /** The most events that wait: 1,000 unless set. Any more are dropped. */
  maxBufferedEvents?: number
  /** The most bytes that wait: 1 MiB unless set. */
  maxBufferedBytes?: number
}

/** What is known of an event besides its feature and action. */
export interface Parameters<
  Metadata = Record<never, never>,
  PrivateMetadata = Record<never, never>,
  Product extends string = string,
  Category extends string = string,
> {
  /** Version of these parameters' shape, counted from 0. */
  version?: number
  /** Numbers and booleans, which become 1 and 0. They may leave the operator's systems. */
  metadata?: Metadata & ConstantKeys<Metadata, number | boolean | undefined>
  /** What JSON can hold. It stays with the operator unless they allow it to leave. */
  privateMetadata?: PrivateMetadata & ConstantKeys<PrivateMetadata, unknown>
  /** For usage that is charged for. */
  billing?: { product: Product & Constant<Product>; category: Category & Constant<Category> }
  /** Ties events together. */
  interactionId?: string
}

/** Where a user came from. What is not known is left out. */
export interface MarketingTracking {
  url?: string
  firstSourceUrl?: string
  cohortId?: string
  referrer?: string
  lastSourceUrl?: string
  deviceSessionId?: string
  sessionReferrer?: string
  sessionFirstUrl?: string
}

/** An event that was not recorded for what it is. Trying again changes nothing. */
export interface InvalidEvent {
  feature: string
  action: string
  /** A stable code such as 'feature_invalid'. */
  reason: string
  /** The field that the reason is about, or ''. */
  field: string
  message: string
}

/**
 * Recorder records what happens in a page and sends it to the page's backend.
 * None of its methods throws, and none waits but those that return a promise.
 *
 * Feature and Action may list what there is: `new Recorder<'cart', 'opened'>`.
 */
export class Recorder<Feature extends string = string, Action extends string = string> {
  readonly #options: RecorderOptions
  readonly #outbox: Outbox
  readonly #listening = new AbortController()
  #dropped = 0

  constructor(options: RecorderOptions) {
    this.#options = options
    this.#outbox = new Outbox({
      door: new Door({
        baseUrl: options.baseUrl ?? '',
        client: options.client,
        credentials: options.credentials ?? 'same-origin',
        interceptors: options.interceptors ?? [],
      }),
      enabled: () => quietly(options.enabled ?? (() => !doNotTrack())) ?? false,
      onInvalid: ({ feature, action }, { reason, field, message }) =>
        this.#onInvalid({ feature, action, reason, field, message }),
      onDropped: (count, reason) => {
        this.#dropped += count
        quietly(() => options.onDropped?.(count, reason))
      },
      flushInterval: options.flushInterval ?? 1_000,
      maxBatchEvents: options.maxBatchEvents ?? 100,
      maxBatchBytes: Math.min(options.maxBatchBytes ?? 30 * 1024, largestBatch),
      maxBufferedEvents: options.maxBufferedEvents ?? 1_000,
      maxBufferedBytes: options.maxBufferedBytes ?? 1024 * 1024,
    })
    this.#listen()
  }

  /** How many events are lost since the start. Invalid ones do not count. */
  get dropped(): number {
    return this.#dropped
  }

  /**
   * Records that action happened to feature, now. Both are constants, and so are
   * all keys, so that nothing a user typed can end up in a name.
   */
  record<
    F extends Feature,
    A extends Action,
    M extends object = Record<never, never>,
    P extends object = Record<never, never>,
    Product extends string = string,
    Category extends string = string,
  >(feature: F & Name<F>, action: A & Name<A>, parameters: Parameters<M, P, Product, Category> = {}): void {
    if (!this.#outbox.permitted()) {
      return
    }
    try {
      const { version, metadata, privateMetadata, billing, interactionId } = parameters
      const event = create(EventSchema, {
        timestamp: timestampNow(),
        feature,
        action,
        parameters: {
          version,
          metadata: numbers(metadata),
          // A copy: what is recorded is what is there now.
          privateMetadata: privateMetadata && (JSON.parse(JSON.stringify(privateMetadata)) as JsonObject),
          billingMetadata: billing,
        },
        marketingTracking: this.#options.marketingTracking?.(),
        interactionId,
      })
      const bytes = toBinary(EventSchema, event).length + framing
      if (bytes > largestBatch) {
        const message = `has ${bytes} bytes, more than ${largestBatch}`
        return this.#onInvalid({ feature, action, reason: 'too_large', field: '', message })
      }
      this.#outbox.add(event, bytes)
    } catch (error) {
      this.#onInvalid({ feature, action, reason: 'undecodable', field: '', message: String(error) })
    }
  }

  /** Sends everything now. Resolves when none of it waits any more: sent, invalid or lost. */
  flush(): Promise<void> {
    return this.#outbox.flush()
  }

  /** Sends everything now, once, and records nothing more. What is not taken is lost. */
  async close(): Promise<void> {
    await this.#outbox.close()
    this.#listening.abort()
  }

  #onInvalid(event: InvalidEvent): void {
    const { onInvalid = warn } = this.#options
    quietly(() => onInvalid(event))
  }

  /**
   * Listens to whether the page is hidden. Such a page may never run again, and
   * no other news is sure to come. None of this keeps a browser from restoring
   * the page when the user goes back to it.
   */
  #listen(): void {
    const { signal } = this.#listening
    const { document } = globalThis
    const hide = () => this.#outbox.hide()
    document?.addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && hide(), { signal })
    document?.addEventListener('freeze', hide, { signal })
    globalThis.addEventListener?.('pagehide', hide, { signal })
  }
}

/** Reports whether the browser asks not to track: by either of the two signals. */
export function doNotTrack(): boolean {
  const { doNotTrack, globalPrivacyControl } = (globalThis.navigator ?? {}) as Navigator & { globalPrivacyControl?: boolean }
  return doNotTrack === '1' || globalPrivacyControl === true
}

/** The most bytes that an event in a request needs besides its own: a tag and a length. */
const framing = 4

function numbers(metadata: object = {}): Record<string, number> {
  const numbers: Record<string, number> = {}
  for (const [key, value] of Object.entries(metadata)) {
    if (value !== undefined) {
      numbers[key] = typeof value === 'boolean' ? +value : value
    }
  }
  return numbers
}

function warn({ feature, action, reason, field, message }: InvalidEvent): void {
  console.warn(`telemetry: ${feature}/${action} is not recorded: ${reason}: ${field} ${message}`)
}

/** Runs a function of the application's, whose errors must not become the page's. */
function quietly<T>(f: () => T): T | undefined {
  try {
    return f()
  } catch (error) {
    console.warn('telemetry:', error)
    return undefined
  }
}
