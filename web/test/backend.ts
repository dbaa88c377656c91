// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { buffer } from 'node:stream/consumers'

import { fromBinary } from '@bufbuild/protobuf'

import { RecordEventsRequestSchema } from '../dist/gen/telemetryintake/v1/telemetryintake_pb.js'

/** An event as the backend's store has it. */
export interface Stored {
  id: string
  timestamp: string
  feature: string
  action: string
  [field: string]: unknown
}

/** A request, as it came over the wire. */
export interface Sent {
  key: string
  bytes: number
  headers: IncomingHttpHeaders
  /** What is in it, as feature/action. */
  events: string[]
}

/** What the wire does with a request instead of passing it on. */
export type Fault =
  | { answer: number; headers?: Record<string, string>; body?: string }
  /** The backend gets it, but its answer is lost. */
  | 'lose-answer'
  /** Nobody answers until release is called. The backend gets it then. */
  | { until: Promise<void> }

/** The real backend, behind a wire that can fail. */
export class Backend {
  readonly sent: Sent[] = []
  readonly stored: Stored[] = []
  /** Faults of the next requests, in order. After them, everything passes. */
  faults: Fault[] = []
  /** How many requests are being answered, and the most that were at once. */
  open = 0
  mostOpen = 0
  #process: ChildProcess
  #wire: Server
  #target = ''

  private constructor() {
    this.#process = spawn('build/server', { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#wire = createServer((incoming, outgoing) => {
      incoming.on('error', () => {})
      outgoing.on('error', () => {})
      outgoing.setHeader('Connection', 'close') // no failures that a test did not ask for, of connections gone idle
      void buffer(incoming).then(
        body => this.#pass(incoming.url ?? '', incoming.headers, body, outgoing),
        () => {},
      )
    })
  }

  static async start(): Promise<Backend> {
    const backend = new Backend()
    const lines = createInterface({ input: backend.#process.stdout! })
    ;[backend.#target] = (await once(lines, 'line')) as [string]
    lines.on('line', line => backend.stored.push(JSON.parse(line) as Stored))
    backend.#wire.listen(0, '127.0.0.1')
    await once(backend.#wire, 'listening')
    return backend
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#wire.address() as AddressInfo).port}`
  }

  /** What is stored, as feature/action. */
  get names(): string[] {
    return this.stored.map(({ feature, action }) => `${feature}/${action}`)
  }

  /** Switches the store off or on. */
  async store(state: 'on' | 'off'): Promise<void> {
    const switching = request(`${this.#target}/store/${state}`, { method: 'POST' }).end()
    const [answer] = (await once(switching, 'response')) as [IncomingMessage]
    await buffer(answer)
  }

  /** Forgets what was, and works again. */
  async reset(): Promise<void> {
    this.sent.length = this.stored.length = this.faults.length = this.mostOpen = 0
    await this.store('on')
  }

  async stop(): Promise<void> {
    this.#wire.closeAllConnections()
    this.#wire.close()
    this.#process.stdin!.end()
    await once(this.#process, 'exit')
  }

  async #pass(url: string, headers: IncomingHttpHeaders, body: Buffer, outgoing: ServerResponse): Promise<void> {
    const { idempotencyKey, events } = fromBinary(RecordEventsRequestSchema, body)
    this.sent.push({
      key: idempotencyKey,
      bytes: body.length,
      headers,
      events: events.map(({ feature, action }) => `${feature}/${action}`),
    })
    this.mostOpen = Math.max(this.mostOpen, ++this.open)
    outgoing.on('close', () => this.open--)
    const fault = this.faults.shift()
    if (typeof fault === 'object' && 'answer' in fault) {
      outgoing.writeHead(fault.answer, fault.headers).end(fault.body)
      return
    }
    if (typeof fault === 'object') {
      await fault.until
    }
    const onward = request(this.#target + url, { method: 'POST', headers }, answer => {
      void buffer(answer).then(answered => {
        if (fault === 'lose-answer') {
          outgoing.destroy()
          return
        }
        outgoing.writeHead(answer.statusCode!, answer.headers).end(answered)
      })
    })
    onward.end(body)
  }
}

/** Waits until something holds, however long that takes. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) {
    await new Promise(resolve => setImmediate(resolve))
  }
}

/** Lets everything that needs no timer come to an end. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 50; i++) {
    await new Promise(resolve => setImmediate(resolve))
  }
}

/** A promise and what resolves it. */
export function gate(): { until: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>(resolve => {
    open = resolve
  })
  return { until: opened, open }
}
