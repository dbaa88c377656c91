// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import { create, toBinary } from '@bufbuild/protobuf'
import { Code, ConnectError, type Interceptor } from '@connectrpc/connect'
import { createConnectTransport } from '@connectrpc/connect-web'

import {
  type Event,
  type InvalidEvent,
  RecordEventsRequestSchema,
  TelemetryIntakeService,
} from './gen/telemetryintake/v1/telemetryintake_pb.js'

const method = TelemetryIntakeService.method.recordEvents

/** How long the backend has for an answer, in milliseconds. */
const patience = 15_000

/** The longest that a backend can make us wait, in milliseconds. */
const longestWait = 3_600_000

/** What became of one try to send a batch. */
export type Outcome =
  /** All events are recorded but for these. */
  | { kind: 'answered'; invalid: InvalidEvent[] }
  /** Nobody knows. The batch is to be sent again, after so many milliseconds. */
  | { kind: 'unknown'; after: number }
  /** This batch will never be taken, or none will be. */
  | { kind: 'refused'; forGood: boolean; message: string }

export interface DoorOptions {
  baseUrl: string
  client: { name: string; version?: string }
  credentials: 'same-origin' | 'include' | 'omit'
  interceptors: Interceptor[]
}

/** Door is the backend's, on the network. Its methods never throw. */
export class Door {
  readonly #options: DoorOptions

  constructor(options: DoorOptions) {
    this.#options = options
  }

  /** Sends events under a key while the page lives, or until the signal aborts. */
  send(key: string, events: Event[], signal: AbortSignal): Promise<Outcome> {
    return this.#call(key, events, false, signal)
  }

  /**
   * Sends events under a key so that the browser goes on with it when the page
   * is gone. Browsers hand out 64 KiB for all such requests that are under way.
   */
  sendSurviving(key: string, events: Event[]): Promise<Outcome> {
    if (typeof Request === 'function' && 'keepalive' in Request.prototype) {
      return this.#call(key, events, true)
    }
    return this.#beacon(key, events)
  }

  async #call(key: string, events: Event[], keepalive: boolean, signal?: AbortSignal): Promise<Outcome> {
    const { baseUrl, client, credentials, interceptors } = this.#options
    if (!reachable(baseUrl)) {
      const message = `there is no page to tell where the backend is, or baseUrl is no address: ${JSON.stringify(baseUrl)}`
      return { kind: 'refused', forGood: true, message }
    }
    let status = 0
    try {
      const transport = createConnectTransport({
        baseUrl,
        interceptors,
        useBinaryFormat: true,
        fetch: async (input, init) => {
          const response = await fetch(input, { ...init, credentials, keepalive })
          status = response.status
          return response
        },
      })
      const request = { client, events, idempotencyKey: key }
      const response = await transport.unary(method, signal, patience, undefined, request)
      return { kind: 'answered', invalid: response.message.invalidEvents }
    } catch (error) {
      return outcome(ConnectError.from(error), status)
    }
  }

  /**
   * A beacon tells nobody what became of it. If the page is still there after a
   * while, the batch has to be sent again to find out: once more does no harm.
   */
  async #beacon(key: string, events: Event[]): Promise<Outcome> {
    try {
      const { baseUrl, client } = this.#options
      const url = `${baseUrl.replace(/\/$/, '')}/${method.parent.typeName}/${method.name}`
      const body = toBinary(RecordEventsRequestSchema, create(RecordEventsRequestSchema, { client, events, idempotencyKey: key }))
      if (navigator.sendBeacon(url, new Blob([body], { type: 'application/proto' }))) {
        await new Promise(resolve => setTimeout(resolve, patience))
      }
    } catch {
      // There are no beacons here: what is left is that the page lives.
    }
    return { kind: 'unknown', after: 0 }
  }
}

/**
 * Reports whether requests can be sent to a URL at all. Where there is no page,
 * one without a host is nowhere: trying would never end, nor would a program
 * that waits for it.
 */
function reachable(url: string): boolean {
  try {
    return Boolean(new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href))
  } catch {
    return false
  }
}

function outcome(error: ConnectError, status: number): Outcome {
  const message = error.message
  switch (error.code) {
    case Code.PermissionDenied:
    case Code.Unimplemented:
      return { kind: 'refused', forGood: true, message }
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
    case Code.ResourceExhausted: // the batch is too large: a call too many is Unavailable
      return { kind: 'refused', forGood: false, message }
    case Code.Unknown:
    case Code.Internal:
      // Something between here and the backend does not like this request. It
      // must not keep all others from being sent.
      if (status >= 400 && status < 500 && status !== 408 && status !== 425) {
        return { kind: 'refused', forGood: false, message }
      }
  }
  return { kind: 'unknown', after: retryAfter(error.metadata.get('Retry-After')) }
}

/** The milliseconds that a Retry-After header stands for: seconds or a date. */
function retryAfter(header: string | null): number {
  if (!header) {
    return 0
  }
  const seconds = Number(header)
  const wait = Number.isNaN(seconds) ? Date.parse(header) - Date.now() : seconds * 1000
  return Math.min(Math.max(wait || 0, 0), longestWait)
}
