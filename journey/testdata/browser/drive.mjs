// Copyright 2026 The Telemetry Gateway Authors
// SPDX-License-Identifier: Apache-2.0

// usage: node drive.mjs CHROMIUM PAGE SCREENSHOT
//
// Opens the page in a browser, clicks as a user does, waits until the page says
// what became of it, takes a picture and prints what the page knows as JSON.
import { chromium } from 'playwright-core'

const [executablePath, page, screenshot] = process.argv.slice(2)
const browser = await chromium.launch({
  executablePath,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking'],
})
try {
  const tab = await browser.newPage({ viewport: { width: 900, height: 400 }, colorScheme: 'light' })
  const errors = []
  tab.on('pageerror', error => errors.push(String(error)))
  await tab.goto(page)
  await tab.locator('#first').click()
  await tab.locator('#second').click()
  await tab.locator('#events tr:nth-child(3)').waitFor()
  const answer = tab.locator('#state:is(.failed, .done)')
  await answer.waitFor()
  await tab.mouse.move(0, 0)
  await tab.screenshot({ path: screenshot, fullPage: true })
  const taken = (await answer.getAttribute('class')) === 'done'
  if (!taken) {
    // A page may also send without asking first. It cannot read the answer then,
    // so only the instance can tell whether something came of it.
    await tab.evaluate(async () => {
      const body = JSON.stringify({ query: mutation, variables: { events: recorded.slice(0, 1) } })
      for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
        await fetch(`${instance}/.api/graphql`, { method: 'POST', mode: 'no-cors', credentials: 'include', headers: { 'Content-Type': type }, body })
      }
    })
  }
  console.log(JSON.stringify({
    taken,
    errors,
    state: await answer.textContent(),
    recorded: await tab.evaluate(() => window.recorded),
  }))
} finally {
  await browser.close()
}
