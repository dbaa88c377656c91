// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

'use strict'

const telemetry = load('telemetry/')
// The package has this one, and does not export it from its root.
const { TimestampTelemetryProcessor } = load('telemetry/processors/timestamp')

const instance = new URLSearchParams(location.search).get('instance')
const element = id => document.getElementById(id)

// What the test compares with what arrives.
window.recorded = []
let acknowledged = 0

// As shipped web apps have it.
const mutation = `
  mutation ExportTelemetryEvents($events: [TelemetryEventInput!]!) {
    telemetry {
      recordEvents(events: $events) {
        alwaysNil
      }
    }
  }
`
class InstanceExporter {
  async exportEvents(events) {
    const response = await fetch(`${instance}/.api/graphql?ExportTelemetryEvents`, {
      method: 'POST',
      credentials: 'include',
      headers: {
        'Content-Type': 'application/json',
        'X-Requested-With': 'Sourcegraph',
        'X-Sourcegraph-Actor-Anonymous-UID': 'a-visitor-of-the-web-app',
        'X-Sourcegraph-Interaction-ID': 'of-the-whole-page',
      },
      body: JSON.stringify({ query: mutation, variables: { events } }),
    })
    const { errors } = await response.json()
    if (errors) {
      throw new Error(errors.map(error => error.message).join('\n'))
    }
    acknowledged += events.length
    if (acknowledged === window.recorded.length) {
      state('done', `${acknowledged} events, on the instance's disk`)
    }
  }
}

function state(kind, text) {
  element('state').className = kind
  element('state').textContent = text
}

const provider = new telemetry.TelemetryRecorderProvider(
  { client: 'example.web', clientVersion: '4.5.6' },
  new InstanceExporter(),
  [
    new TimestampTelemetryProcessor(),
    new telemetry.MarketingTrackingTelemetryProcessor({
      getMarketingTrackingMetadata: () => ({
        url: location.href, referrer: 'https://search.example.com/?q=canary', cohortID: '2026-01',
        firstSourceURL: null, lastSourceURL: null, deviceSessionID: 'canary', sessionReferrer: null, sessionFirstURL: null,
      }),
    }),
    new telemetry.CallbackTelemetryProcessor(event => {
      window.recorded.push(event)
      show(event)
    }),
  ],
  { bufferTimeMs: 50, bufferMaxSize: 10, errorHandler: error => state('failed', `not recorded: ${error.message ?? error}`) },
)
const recorder = provider.getRecorder()

// show adds an event to the table.
function show(event) {
  const row = element('events').insertRow()
  row.insertCell().textContent = `${event.feature} / ${event.action}`
  const leaves = row.insertCell()
  const stays = row.insertCell()
  const chip = (cell, text, kind) => {
    const item = document.createElement('i')
    item.className = kind
    item.textContent = text
    cell.append(item)
  }
  const { metadata = [], privateMetadata = {}, billingMetadata } = event.parameters
  for (const { key, value } of metadata) {
    chip(leaves, `${key} ${value}`, 'leaves')
  }
  if (billingMetadata) {
    chip(leaves, `billed as ${billingMetadata.product}/${billingMetadata.category}`, 'leaves')
  }
  for (const [key, value] of Object.entries(privateMetadata)) {
    const allowed = key === 'languageId'
    chip(allowed ? leaves : stays, `${key} ${JSON.stringify(value)}`, allowed ? 'leaves' : 'stays')
  }
  if (event.marketingTracking) {
    chip(stays, 'marketing data', 'stays')
  }
}

recorder.recordEvent('page', 'viewed')

function opened(position) {
  return event => {
    event.currentTarget.classList.add('opened')
    recorder.recordEvent('search.results', 'opened', {
      version: 2,
      interactionID: `search-${position}`,
      metadata: { position, precise: 1, relevance: 0.875, skipped: NaN },
      privateMetadata: { languageId: 'go', query: 'func Record canary', ranks: [1, { of: null }] },
      billingMetadata: { product: 'search', category: 'core' },
    })
  }
}
element('first').addEventListener('click', opened(1))
element('second').addEventListener('click', opened(2))
