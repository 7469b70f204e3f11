// Takes a picture of a page, as a browser shows it: screenshot.js URL FILE light|dark WIDTH HEIGHT SECONDS

import { chromium } from "playwright-core";

const [url, path, colorScheme, width, height, seconds] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: Number(width), height: Number(height) }, colorScheme });
await page.goto(url);
await page.waitForTimeout(Number(seconds) * 1000);
await page.screenshot({ path });
await browser.close();
