// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// What must compile, and what must not. The compiler is the test: it complains
// about an error that is expected and does not come.
import { Recorder } from '@telemetrygateway/web'

const recorder = new Recorder({ client: { name: 'shop.web' } })
const listed = new Recorder<'cart' | 'search', 'opened' | 'closed'>({ client: { name: 'shop.web' } })

interface Measures {
  seconds: number
  cached?: boolean
}

export function compile(text: string, one: 'cart' | 'search', pattern: `item-${string}`, measures: Measures): void {
  recorder.record('cart', 'opened')
  recorder.record('code.search-results', 'openedInNewTab')
  recorder.record(one, 'opened')
  recorder.record('cart', 'opened', {})
  recorder.record('cart', 'opened', { metadata: { price: 12.5, gift: true, coupon: undefined }, version: 1 })
  recorder.record('cart', 'opened', { metadata: measures, privateMetadata: measures })
  recorder.record('cart', 'opened', { privateMetadata: { text, deep: [{ [text]: text }] }, interactionId: text })
  recorder.record('cart', 'opened', { billing: { product: 'shop', category: 'core' } })
  const parameters = { metadata: { price: 12.5 } }
  recorder.record('cart', 'opened', parameters)
  listed.record('search', 'closed', { metadata: { price: 12.5 } })
  listed.record(one, 'closed')

  // @ts-expect-error a feature is a constant
  recorder.record(text, 'opened')
  // @ts-expect-error an action is a constant
  recorder.record('cart', text)
  // @ts-expect-error a pattern is no constant
  recorder.record(pattern, 'opened')
  // @ts-expect-error not even in part
  recorder.record(text.length > 3 ? 'cart' : pattern, 'opened')
  // @ts-expect-error nor a text that was changed
  recorder.record(text.toLowerCase() as Lowercase<string>, 'opened')
  // @ts-expect-error a name begins with a small letter
  recorder.record('Cart', 'opened')
  // @ts-expect-error goes on with letters, dots and dashes
  recorder.record('cart', 'opened_again')
  // @ts-expect-error has two letters at least
  recorder.record('c', 'opened')
  // @ts-expect-error a key of metadata is a constant
  recorder.record('cart', 'opened', { metadata: { [text]: 1 } })
  // @ts-expect-error metadata are numbers and booleans
  recorder.record('cart', 'opened', { metadata: { name: text } })
  // @ts-expect-error a key of private metadata is a constant
  recorder.record('cart', 'opened', { privateMetadata: { [text]: 1 } })
  // @ts-expect-error whatever it comes from
  recorder.record('cart', 'opened', { privateMetadata: JSON.parse(text) as Record<string, unknown> })
  // @ts-expect-error a product is a constant
  recorder.record('cart', 'opened', { billing: { product: text, category: 'core' } })
  // @ts-expect-error and has a category
  recorder.record('cart', 'opened', { billing: { product: 'shop' } })
  // @ts-expect-error there are no other parameters
  recorder.record('cart', 'opened', { metdata: { price: 12.5 } })
  // @ts-expect-error not one of the features listed
  listed.record('page', 'opened')
  // @ts-expect-error not one of the actions listed
  listed.record('cart', 'emptied')
}
