// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// usage: node service.mjs CHROMIUM PAGE SCREENSHOT
//
// Uses the example service's page as people do, and leaves it in every way that
// there is. It prints as JSON what the test cannot know otherwise, and ends the
// browser when its input ends.
import { chromium, request } from 'playwright-core'

const [executablePath, page, screenshot] = process.argv.slice(2)
const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
})
const errors = []
const visit = { errors, tabs: {} }
try {
  const context = await browser.newContext({ viewport: { width: 1000, height: 560 }, colorScheme: 'light' })
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: page })
  // As another product at the same host would have set it.
  await context.addCookies([{ name: 'session', value: 'canary-session', url: page }])

  // A tab, and the visits that were made in it.
  async function open(name) {
    const tab = await context.newPage()
    visit.tabs[name] = []
    tab.on('pageerror', error => errors.push(`${name}: ${error}`))
    tab.on('console', message => ['error', 'warning'].includes(message.type()) && errors.push(`${name}: ${message.text()}`))
    tab.on('request', request => {
      const id = request.headers()['x-visit']
      if (id && !visit.tabs[name].includes(id)) {
        visit.tabs[name].push(id)
      }
    })
    await tab.goto(page)
    await tab.locator('#answers button').first().waitFor()
    return tab
  }
  const vote = async (tab, answer) => {
    await tab.locator('#answers button').nth(answer).click()
    await tab.locator(`#answers button.yours:nth-child(${answer + 1})`).waitFor()
  }
  // Closes a tab as a person does, and returns when it is gone: what it does
  // last must not see the cookies of what comes next.
  async function close(tab) {
    const gone = tab.waitForEvent('close')
    await tab.close({ runBeforeUnload: true })
    await gone
  }
  // Begins a question with some answers.
  async function write(tab, answers) {
    await tab.locator('input[name=question]').fill('Tabs or spaces, once and for all?')
    for (const [i, text] of ['Tabulators', 'Blanks in fours', 'Whatever gofmt says'].slice(0, answers).entries()) {
      await tab.locator('input[name=answer]').nth(i).fill(text)
    }
  }

  const use = await open('use')
  visit.first = (await use.evaluate(async () => (await fetch('/api/polls')).json()))[0].id
  await vote(use, 0)
  // Others do not want to be tracked. Their browsers say so.
  for (const answer of [0, 0, 0, 1, 1, 1, 1, 2]) {
    const other = await request.newContext({ baseURL: page, extraHTTPHeaders: { DNT: '1' } })
    await other.put(`/api/polls/${visit.first}/vote`, { data: { answer } })
    await other.dispose()
  }
  await vote(use, 1)
  await write(use, 3)
  await use.locator('#ask button').click()
  await use.locator('#question', { hasText: 'Tabs' }).waitFor()
  visit.asked = await use.evaluate(() => location.hash.slice(1))
  await use.locator('#copy').click()
  await use.locator('#copy', { hasText: 'Copied' }).waitFor()
  visit.copied = await use.evaluate(() => navigator.clipboard.readText())
  await use.locator('#polls a').nth(1).click()
  await use.locator('#answers button.yours').waitFor()
  visit.listed = await use.locator('#events li').allTextContents()
  visit.cookies = await context.cookies(page)
  await use.mouse.move(0, 0)
  await use.screenshot({ path: screenshot, fullPage: true })
  await close(use)

  // Nothing is recorded of whoever turned it off, whatever they do, until they
  // turn it on again.
  await context.addCookies([{ name: 'telemetry', value: 'off', url: page }])
  const off = await open('off')
  await vote(off, 2)
  await off.locator('#consent').check()
  await vote(off, 0)
  await close(off)

  // Each leaves with a number of answers of its own.
  const closed = await open('closed')
  await write(closed, 0)
  await close(closed)

  const navigated = await open('navigated')
  await write(navigated, 1)
  await navigated.goto('about:blank')

  const reloaded = await open('reloaded')
  await write(reloaded, 2)
  await reloaded.reload()
  await reloaded.locator('#answers button').first().waitFor()

  // The window goes, with all tabs that are left. To close the context would also
  // throw away what the browser has just been given to send.
  const quit = await open('quit')
  await vote(quit, 1)
  await write(quit, 3)
  await Promise.all(context.pages().map(close))

  console.log(JSON.stringify(visit))
  // What a tab sends as it goes, the browser sends: it stays until the test has
  // seen everything.
  await new Promise(resolve => process.stdin.resume().once('end', resolve))
} finally {
  await browser.close()
}
