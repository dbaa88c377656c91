// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

'use strict'

// The operation that shipped web apps send; other clients differ in its name.
const mutation = `mutation ExportTelemetryEvents($events: [TelemetryEventInput!]!) {
  telemetry { recordEvents(events: $events) { alwaysNil } }
}`

const element = id => document.getElementById(id)
const show = value => JSON.stringify(value, null, 2)
let recorded = 0

function event() {
  return {
    timestamp: new Date().toISOString(),
    feature: 'demoPage',
    action: 'clicked',
    source: { client: 'demo.web', clientVersion: '1.0.0' },
    parameters: {
      version: 0,
      metadata: [{ key: 'clicks', value: recorded + 1 }],
      privateMetadata: { page: location.href },
    },
  }
}

function mark(step, state) {
  element(step).className = state
}

async function record() {
  const variables = { events: [event()] }
  element('sent').textContent = show(variables)
  element('answer').textContent = '…'
  mark('step-page', 'done')
  mark('step-instance', '')
  let ok = false
  try {
    const response = await fetch('.api/graphql?ExportTelemetryEvents', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ query: mutation, variables }),
    })
    const text = await response.text()
    let answer = text
    try {
      answer = JSON.parse(text)
      ok = response.ok && !answer.errors
    } catch {
      // Not JSON: it is shown as it is.
    }
    element('answer').textContent = `${response.status} ${response.statusText}\n${typeof answer === 'string' ? answer : show(answer)}`
  } catch (error) {
    element('answer').textContent = `no answer: ${error.message}`
  }
  mark('step-instance', ok ? 'done' : 'failed')
  if (ok) {
    recorded++
  }
  element('count').textContent = ok ? `${recorded} recorded, on the instance's disk` : 'not recorded'
}

element('record').addEventListener('click', async () => {
  const button = element('record')
  button.disabled = true
  await record()
  button.disabled = false
  button.focus()
})
