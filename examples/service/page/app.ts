// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

import { doNotTrack, Recorder } from '@telemetrygateway/web'

// All that this page can record. Any other name does not compile, and neither
// does a variable that holds a text: what a person wrote never becomes a name.
type Feature = 'page' | 'poll' | 'poll.answer' | 'poll.link' | 'poll.draft'
type Action = 'viewed' | 'opened' | 'chosen' | 'copied' | 'abandoned'

// It sends to the backend that served this page, which knows who we are by a
// cookie that no script can read. Nothing that it does can throw in here.
const telemetry = new Recorder<Feature, Action>({
  client: { name: 'polls.web', version: '1.0.0' },
  enabled: consents,
})

// A visit ties together what the page and the backend record of it: each event
// here has it as its interaction, and the API is told in a header.
const interactionId = crypto.randomUUID()

function consents(): boolean {
  return !doNotTrack() && !document.cookie.split('; ').includes('telemetry=off')
}

interface Poll {
  id: string
  question: string
  answers: string[]
  votes: number[]
  yours: number
}

let polls: Poll[] = []
let shownAt = 0

const element = <T extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as T
const form = element<HTMLFormElement>('ask')
const hands = (poll: Poll) => poll.votes.reduce((sum, votes) => sum + votes, 0)
const counted = (n: number) => (n === 1 ? '1 hand' : `${n} hands`)
const current = () => polls.find(poll => `#${poll.id}` === location.hash) ?? polls[polls.length - 1]

async function start(): Promise<void> {
  polls = await call<Poll[]>('GET', '/api/polls')
  telemetry.record('page', 'viewed', { metadata: { polls: polls.length }, interactionId })
  seen('page / viewed')
  show()
}

/** Shows the poll that the address now names, as it is now. */
async function open(): Promise<void> {
  polls = await call<Poll[]>('GET', '/api/polls')
  show()
}

function show(): void {
  const poll = current()
  shownAt = performance.now()
  if (poll) {
    telemetry.record('poll', 'opened', {
      metadata: { answers: poll.answers.length, answered: poll.yours >= 0 },
      privateMetadata: { poll: poll.id },
      interactionId,
    })
    seen('poll / opened')
  }
  render()
}

/** The backend records that the vote was counted; how long it took is known here alone. */
async function vote(poll: Poll, answer: number): Promise<void> {
  telemetry.record('poll.answer', 'chosen', {
    metadata: { answer, seconds: Math.round((performance.now() - shownAt) / 1000) },
    privateMetadata: { poll: poll.id },
    interactionId,
  })
  seen('poll.answer / chosen')
  const now = await call<Poll>('PUT', `/api/polls/${poll.id}/vote`, { answer })
  polls = polls.map(other => (other.id === poll.id ? now : other))
  render()
}

async function ask(): Promise<void> {
  const { question, answers } = draft()
  const poll = await call<Poll>('POST', '/api/polls', { question, answers })
  form.reset()
  location.hash = poll.id
}

async function copy(): Promise<void> {
  await navigator.clipboard.writeText(location.href)
  element('copy').textContent = 'Copied'
  telemetry.record('poll.link', 'copied', { privateMetadata: { poll: current()?.id ?? null }, interactionId })
  seen('poll.link / copied')
}

/** How far somebody got who leaves with a question unasked. */
function leave(): void {
  const { question, answers } = draft()
  if (question || answers.length > 0) {
    // What was written stays here. Recorded this late, it still arrives.
    telemetry.record('poll.draft', 'abandoned', { metadata: { question: question !== '', answers: answers.length }, interactionId })
  }
}

function draft(): { question: string; answers: string[] } {
  const fields = new FormData(form)
  const answers = fields.getAll('answer').map(answer => String(answer).trim())
  return { question: String(fields.get('question')).trim(), answers: answers.filter(answer => answer !== '') }
}

function render(): void {
  const poll = current()
  if (!poll) {
    return
  }
  const total = hands(poll)
  element('question').textContent = poll.question
  element('answers').replaceChildren(
    ...poll.answers.map((text, answer) => {
      const votes = poll.votes[answer] ?? 0
      const button = document.createElement('button')
      button.type = 'button'
      button.classList.toggle('yours', answer === poll.yours)
      button.setAttribute('aria-pressed', String(answer === poll.yours))
      button.style.setProperty('--share', `${total === 0 ? 0 : (100 * votes) / total}%`)
      button.append(text, Object.assign(document.createElement('b'), { textContent: votes || '' }))
      button.onclick = () => attempt(() => vote(poll, answer))
      return button
    }),
  )
  element('total').textContent = total === 0 ? 'Nobody yet. Be the first.' : counted(total)
  element('copy').textContent = 'Copy the link'
  element('polls').replaceChildren(
    ...polls.map(other => {
      const link = Object.assign(document.createElement('a'), { href: `#${other.id}`, textContent: other.question })
      link.append(Object.assign(document.createElement('small'), { textContent: counted(hands(other)) }))
      if (other === poll) {
        link.setAttribute('aria-current', 'true')
      }
      return link
    }),
  )
}

/** Shows people what was recorded of them. */
function seen(event: string): void {
  if (consents()) {
    element('events').append(Object.assign(document.createElement('li'), { textContent: event }))
  }
}

async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const headers = { 'Content-Type': 'application/json', 'X-Visit': interactionId }
  const response = await fetch(path, { method, headers, body: body ? JSON.stringify(body) : null })
  if (!response.ok) {
    throw new Error(await response.text())
  }
  return response.json() as Promise<T>
}

function attempt(action: () => Promise<void>): void {
  const trouble = element('trouble')
  trouble.hidden = true
  action().catch((error: unknown) => {
    trouble.textContent = `That did not work: ${error instanceof Error ? error.message : error}`
    trouble.hidden = false
  })
}

const consent = element<HTMLInputElement>('consent')
consent.checked = consents()
consent.onchange = () => {
  document.cookie = `telemetry=${consent.checked ? 'on' : 'off'}; path=/; max-age=31536000; samesite=lax`
}
form.onsubmit = event => {
  event.preventDefault()
  attempt(ask)
}
element('copy').onclick = () => attempt(copy)
window.addEventListener('hashchange', () => attempt(open))
window.addEventListener('pagehide', leave)
attempt(start)
