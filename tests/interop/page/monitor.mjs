// The page of pgio monitor in a real browser. Arguments: its URL, the token, and a directory for pictures, if any.
import assert from "node:assert/strict";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [url, token, pictures] = process.argv.slice(2);
// As root, Chromium has no sandbox.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
const page = await context.newPage();
page.setDefaultTimeout(20_000);

const troubles = [];
page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
page.on("dialog", (dialog) => troubles.push(`dialog: ${dialog.message()}`));
page.on("console", (message) => {
  // The login page itself comes with status 401.
  if (message.type() === "error" && !message.text().includes("401")) troubles.push(message.text());
});
page.on("request", (request) => {
  if (!request.url().startsWith(url)) troubles.push(`elsewhere: ${request.url()}`);
  if (request.url().includes(token)) troubles.push(`token in ${request.url()}`);
});

const text = (selector) => page.locator(selector).innerText();
const until = (check, argument) => page.waitForFunction(check, argument);
const picture = async (name) => pictures && page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
}

try {
  await step("login", async () => {
    await page.goto(url);
    assert.equal(await page.evaluate(() => document.activeElement.id), "token");
    await page.keyboard.type("wrong");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
    await page.keyboard.type(token);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Live traffic" }).waitFor();
    const [cookie] = await context.cookies();
    assert.ok(cookie.httpOnly && cookie.sameSite === "Strict" && !cookie.value.includes(token), JSON.stringify(cookie));
    assert.equal(await page.evaluate(() => document.cookie), "");
  });

  await step("hostile names are text", async () => {
    const event = page.locator("#rates-table td", { hasText: "<img src=x onerror=alert(1)>" });
    await event.first().waitFor();
    await page.keyboard.press("2");
    await page.locator("#rates-table td", { hasText: "<script>alert(2)</script>" }).first().waitFor();
    assert.equal(await page.getAttribute("#by-room", "aria-selected"), "true");
    await until(() => document.querySelector("#lines")?.textContent.includes("<b onclick=alert(3)>"));
    assert.equal(await page.locator("main img, main script, main b").count(), 0);
    assert.ok(!(await page.evaluate(() => document.body.textContent)).includes("\u202e"));
    await page.keyboard.press("1");
  });

  await step("the policy forbids inline scripts and styles", async () => {
    const found = await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      script.remove();
      return window.ran;
    });
    assert.equal(found, undefined);
    const blocked = troubles.splice(0).filter((trouble) => !trouble.includes("Content Security Policy"));
    assert.deepEqual(blocked, []);
  });

  await step("servers, sockets and rooms come in pages", async () => {
    await until(() => document.querySelector("#sockets-pager")?.textContent.includes("1–25 of 10,00"));
    assert.equal(await page.locator("#sockets-table tbody tr").count(), 25);
    await page.getByRole("button", { name: "Next sockets" }).press("Enter");
    await until(() => document.querySelector("#sockets-pager").textContent.includes("26–50"));
    const asked = Date.now();
    await page.fill("#sockets-search", "socket-9876");
    await until(() => document.querySelector("#sockets-pager").textContent.includes("1–1 of 1"));
    assert.ok(Date.now() - asked < 5000, "the search takes long");
    await page.fill("#sockets-search", "");
    await page.locator("#rooms-table button", { hasText: "of-ten-thousand" }).first().click();
    await until(() => document.querySelector("#sockets-pager").textContent.includes("of 10,000"));
    await page.getByRole("button", { name: "Show all" }).press("Enter");
    await until(() => document.querySelector("#servers-table").textContent.includes("10,000"));
    await until(() => /127\.0\.0\.1:\d/.test(document.querySelector("#servers-table").textContent));
    await until(() => /of 10,00[1-9]/.test(document.querySelector("#sockets-pager").textContent));
  });

  await step("filter and pause by keyboard", async () => {
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.id), "live-search");
    await page.keyboard.type("needle");
    await until(() => {
      const events = [...document.querySelectorAll("#lines .event")].map((event) => event.textContent);
      return events.length > 2 && events.every((event) => event === "needle");
    });
    await page.keyboard.press("Escape");
    await page.keyboard.press("p");
    assert.equal(await page.getAttribute("#pause", "aria-pressed"), "true");
    const before = await page.locator("#lines .message").count();
    await until(() => /paused, [1-9]/.test(document.querySelector("#skipped").textContent));
    assert.equal(await page.locator("#lines .message").count(), before);
    await page.keyboard.press("p");
    await until((count) => document.querySelectorAll("#lines .message").length > count, before);
    await page.fill("#live-search", "");
  });

  await step("a page that becomes visible again opens one stream, also after filters", async () => {
    const opened = await page.evaluate(() => {
      const Real = window.EventSource;
      let count = 0;
      window.EventSource = class extends Real {
        constructor(...parameters) {
          super(...parameters);
          count += 1;
        }
      };
      document.dispatchEvent(new Event("visibilitychange"));
      window.EventSource = Real;
      return count;
    });
    assert.equal(opened, 1);
  });

  await step("charts and doctor", async () => {
    await until(() => document.querySelectorAll(".chart path.line").length >= 4);
    const said = await page.locator("#chart-events svg").getAttribute("aria-label");
    assert.match(said, /^Events and acknowledgements per second: now events [\d,.]+, acks [\d,.]+, maximum [\d,.]+$/);
    await page.locator("#findings li.ok", { hasText: "delivery" }).waitFor();
    await page.getByRole("button", { name: "Check again" }).press("Enter");
    await until(() => document.querySelector("#doctor-age").textContent.includes("checked"));
    assert.equal(await text("#status"), "connected");
  });

  await step("every control has a name", async () => {
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select")]
      .filter((one) => !one.textContent.trim() && !one.getAttribute("aria-label") && !one.labels?.length).map((one) => one.outerHTML));
    assert.deepEqual(nameless, []);
  });

  await step("light, dark, phone and wall", async () => {
    const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await colour();
    await picture("light");
    await page.emulateMedia({ colorScheme: "dark" });
    assert.notEqual(await colour(), light);
    await picture("dark");
    for (const [name, width, height] of [["phone", 390, 844], ["small", 320, 568], ["wall", 2560, 1440]]) {
      await page.setViewportSize({ width, height });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= width, `${name}: ${wide} > ${width}`);
      await picture(name);
    }
  });

  await step("log out", async () => {
    await page.getByRole("button", { name: "Log out" }).press("Enter");
    await page.locator("#token").waitFor();
    await page.goto(`${url}`);
    await page.locator("#token").waitFor();
  });
  assert.deepEqual(troubles, []);
} finally {
  await browser.close();
}
