/**
 * Tests the built site in headless Chromium: `npm run site:test`. It builds the site first if it is not there.
 *
 * Every page is opened at 1,280 and at 390 pixels. The playground runs every program. Screenshots go to
 * `site/build/screenshots/`. `npm run site:test -- playground` runs the tests whose name has that word;
 * `SITE_PAGES=tutorial npm run site:test -- pages` opens the pages whose path matches. A site that was built with `SITE_BASE` is tested
 * with the same.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const SITE = import.meta.dirname;
const DIST = join(SITE, "dist");
const SHOTS = join(SITE, "build", "screenshots");
const WIDTHS = [[1280, 900], [390, 844]];
/** The folder of the site on its host. */
const BASE = process.env.SITE_BASE ?? "/";
/** The most bytes of the home page, as they come over the wire. */
const HOME_BUDGET = 200_000;
const words = process.argv.slice(2);

const chromium = find(process.env.CHROMIUM ?? "chromium", "chromium-browser", "google-chrome");
if (chromium === undefined) {
  console.log("skipped: the tests of the site need Chromium (Debian: apt-get install chromium)");
  process.exit(0);
}
if (!existsSync(join(DIST, "index.html"))) {
  execFileSync(process.execPath, [join(SITE, "build.mjs")], { stdio: "inherit" });
}
const { default: puppeteer } = await import("puppeteer-core");
const axe = readFileSync(join(SITE, "node_modules", "axe-core", "axe.min.js"), "utf8");
const { serveSite } = await import("./tools/serve.mjs");

let passed = 0;
const failures = [];
const skipped = [];
const { server, origin } = await serveSite(BASE);
const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"],
  protocolTimeout: 120_000,
});
rmSync(SHOTS, { recursive: true, force: true });
mkdirSync(SHOTS, { recursive: true });

try {
  await test("pages: each at 1,280 and 390 pixels", testPages);
  await test("pages: every internal link leads to a page and a place on it", testLinks);
  await test("pages: llms.txt and the sitemap name each", testLists);
  await test("pages: the home page is within its budget", testBudget);
  for (const [query, title] of SEARCHES()) {
    await test(`search: ${query} finds ${title}`, () => testSearch(query, title));
  }
  for (const [name, expected] of PROGRAMS()) {
    await test(`playground: ${name} runs`, (problem) => testProgram(name, expected, problem));
  }
  await test("playground: bytes on their way show their content, also on a phone", testHover);
  await test("playground: the same address gives the same events twice", testSameAddress);
  await test("playground: a partition stops the chat, and a heal resumes it", testPartition);
  await test("playground: a crash ends the server, and a restart brings it back", testCrash);
  await test("playground: actions on the network are in the address", testActions);
  await test("playground: pause, step and go on", testPause);
  await test("playground: the planted bug is found, and the address repeats it", testExplore);
  await test("playground: an endless loop is stopped and reported, and the page goes on", testLoop);
  await test("playground: an error is reported with its line, and wrong code too", testErrors);
  await test("playground: the program that its page shows runs", testShown);
  await test("playground: an address that cannot be decoded is ignored", testBadAddress);
  await test("playground: the pcap is read by tshark", testPcap);
  await test("playground: the small one on the home page starts", testSmall);
} finally {
  await browser.close();
  server.close();
}
for (const reason of skipped) console.log(`skipped: ${reason}`);
for (const failure of failures) console.log(failure);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;

async function test(name, fn) {
  if (words.length > 0 && !words.some((word) => name.includes(word))) return;
  const begin = performance.now();
  const problems = [];
  try {
    await fn((problem) => problems.push(problem));
  } catch (error) {
    problems.push(error.stack ?? String(error));
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  if (problems.length === 0) passed++;
  else failures.push(`\nFAILED ${name}\n${problems.slice(0, 40).map((problem) => `  ${problem}`).join("\n")}`);
  console.log(`${problems.length === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
}

function find(...names) {
  for (const name of names) {
    if (name.includes("/")) {
      if (existsSync(name)) return name;
      continue;
    }
    for (const folder of (process.env.PATH ?? "").split(delimiter)) {
      if (existsSync(join(folder, name))) return join(folder, name);
    }
  }
  return undefined;
}

/** A tab that notes console errors, failed requests, and requests to other hosts. */
async function open(path, problem, width = WIDTHS[0]) {
  const page = await browser.newPage();
  await page.setViewport({ width: width[0], height: width[1] });
  watch(page, problem);
  await page.goto(origin + path, { waitUntil: "load" });
  return page;
}

function watch(page, problem) {
  page.on("console", (message) => {
    if (message.type() === "error") problem(`${page.url()}: the console has an error: ${message.text()}`);
  });
  page.on("pageerror", (error) => problem(`${page.url()}: ${error.message}`));
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(origin)) {
      problem(`${page.url()} asks another host: ${request.url()}`);
    }
  });
  page.on("requestfailed", (request) => {
    if (request.failure()?.errorText !== "net::ERR_ABORTED") problem(`${page.url()}: ${request.url()} has failed`);
  });
}

function allPages() {
  return readdirSync(DIST, { recursive: true }).filter((name) => name.endsWith(".html")).sort();
}

async function testPages(problem) {
  const names = allPages().filter((name) => new RegExp(process.env.SITE_PAGES ?? "").test(name));
  const page = await browser.newPage();
  watch(page, problem);
  for (const name of names) {
    // The pages of the API have one form, and so have the decisions: axe looks at them at the narrow width alone.
    const whole = !/^(reference\/api|why\/decisions)\//.test(name) || /EvBuffer|serve|index/.test(name);
    await page.setViewport({ width: WIDTHS[0][0], height: WIDTHS[0][1] });
    await page.goto(`${origin}/${name}`, { waitUntil: "load" });
    for (const [width, height] of WIDTHS) {
      await page.setViewport({ width, height });
      const over = await page.evaluate(() =>
        document.documentElement.scrollWidth - document.documentElement.clientWidth
      );
      if (over > 1) problem(`${name} is ${over} pixels too wide at ${width}`);
      if (!whole && width > 390) continue;
      for (const fault of await faults(page)) problem(`${name} at ${width}: ${fault}`);
      await page.screenshot({ path: join(SHOTS, `${name.replaceAll("/", "_").replace(".html", "")}_${width}.png`) });
    }
  }
  await page.setViewport({ width: WIDTHS[1][0], height: WIDTHS[1][1] });
  console.log(`       ${names.length} pages`);
  await page.evaluate(() => localStorage.setItem("vitepress-theme-appearance", "dark"));
  for (const name of ["", "reference/errors.html", "playground.html"]) {
    await page.goto(`${origin}/${name}`, { waitUntil: "load" });
    for (const fault of await faults(page)) problem(`/${name} when it is dark: ${fault}`);
  }
  await page.evaluate(() => localStorage.clear());
  await page.close();
}

/** The serious faults that axe finds. */
async function faults(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, { resultTypes: ["violations"], iframes: false })
  );
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) =>
      `${id}: ${help}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 120)).join(" ")}`
    );
}

function testLinks(problem) {
  const pages = new Map(
    allPages().map((name) => {
      const html = readFileSync(join(DIST, name), "utf8");
      return [`/${name}`, { html, ids: new Set([...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => decode(id))) }];
    }),
  );
  let links = 0;
  for (const [name, { html }] of pages) {
    for (const [, href] of html.matchAll(/<a\b[^>]*\shref="([^"]+)"/g)) {
      if (/^(https?:|mailto:)/.test(href)) continue;
      const url = new URL(decode(href), `http://site${BASE}${name.slice(1)}`);
      links++;
      if (!url.pathname.startsWith(BASE)) problem(`${name} links to ${href}, which is outside of the site`);
      url.pathname = url.pathname.slice(BASE.length - 1);
      const path = url.pathname.endsWith("/") ? `${url.pathname}index.html` : url.pathname;
      const target = pages.get(path);
      if (target === undefined && !statSync(join(DIST, path), { throwIfNoEntry: false })?.isFile()) {
        problem(`${name} links to ${href}, which is not there`);
      }
      const place = decodeURIComponent(url.hash.slice(1));
      if (target !== undefined && place !== "" && !target.ids.has(place)) {
        problem(`${name} links to ${href}, and that page has no such place`);
      }
    }
  }
  if (links < 1000) problem(`only ${links} links were found`);
}

function decode(text) {
  return text.replaceAll("&amp;", "&").replaceAll("&#39;", "'").replaceAll("&quot;", '"');
}

/** `llms.txt` and the sitemap name every page. */
function testLists(problem) {
  const llms = readFileSync(join(DIST, "llms.txt"), "utf8");
  const sitemap = readFileSync(join(DIST, "sitemap.xml"), "utf8");
  for (const name of allPages()) {
    if (name === "404.html") continue;
    if (!llms.includes(`](${BASE}${name})`)) problem(`llms.txt lacks ${name}`);
    const address = name.replace(/(^|\/)index\.html$/, "$1");
    if (!sitemap.includes(`${BASE}${address}</loc>`)) problem(`sitemap.xml lacks ${address}`);
  }
}

async function testBudget(problem) {
  const page = await browser.newPage();
  watch(page, problem);
  let bytes = 0;
  const session = await page.createCDPSession();
  await session.send("Network.enable");
  session.on("Network.loadingFinished", ({ encodedDataLength }) => bytes += encodedDataLength);
  await page.goto(`${origin}/`, { waitUntil: "networkidle0" });
  console.log(`       ${Math.round(bytes / 1000)} kB`);
  if (bytes > HOME_BUDGET) problem(`${bytes} bytes were loaded, and ${HOME_BUDGET} are allowed`);
  await page.close();
}

function SEARCHES() {
  return [["readln", "readln"], ["evbuffer_pullup", "pullup"], ["ECONNRESET", "ECONNRESET"], [
    "watermark",
    "watermark",
  ]];
}

async function testSearch(query, title) {
  const page = await open("/", (problem) => {
    throw new Error(problem);
  });
  await page.waitForSelector("#local-search button");
  await page.click("#local-search button");
  await page.waitForSelector("#localsearch-input");
  await page.type("#localsearch-input", query);
  await page.waitForFunction(() => document.querySelectorAll("#localsearch-list .result").length > 0, {
    timeout: 60_000,
  });
  const found = await page.$$eval(
    "#localsearch-list .result",
    (results) =>
      results.map((result) => `${result.textContent.replaceAll(/\s+/g, " ")} ${result.getAttribute("href")}`),
  );
  if (!found.slice(0, 5).some((text) => text.toLowerCase().includes(title.toLowerCase()))) {
    throw new Error(`the first results are ${found.slice(0, 5).join(" | ")}`);
  }
  await page.close();
}

function PROGRAMS() {
  return [
    ["rot13", "Hello becomes Uryyb"],
    ["chat", "ann hears <cy> message 30"],
    ["slow-reader", "all 600000 bytes have come"],
    ["retry", "the bank has booked 500"],
    ["half-close", "eleven has 6 letters"],
  ];
}

/** Opens the playground. */
async function playground(query, problem) {
  const page = await open(`/playground.html${query}`, problem);
  await page.waitForSelector('[data-playground="run"]');
  return page;
}

function events(page) {
  return page.$$eval('[data-playground="events"] li', (items) => items.map((item) => item.textContent));
}

function messageOf(page) {
  return page.$eval('[data-playground="message"]', (element) => element.textContent.trim());
}

function click(page, part) {
  return page.$eval(`[data-playground="${part}"]`, (element) => element.click());
}

function speed(page, value) {
  return page.select('[data-playground="speed"]', String(value));
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function idle(page, timeout = 90_000) {
  await page.waitForFunction(() => document.querySelector(".pg")?.dataset.state === "idle", { timeout });
}

/** Waits until the list of events has a text. */
async function until(page, text, count = 1) {
  await page.waitForFunction(
    (wanted, least) =>
      [...document.querySelectorAll('[data-playground="events"] li')].filter((item) =>
        item.textContent.includes(wanted)
      )
        .length >= least,
    { timeout: 60_000 },
    text,
    count,
  );
}

async function write(page, source) {
  await page.$eval('[data-playground="editor"]', (editor, text) => {
    editor.value = text;
    editor.dispatchEvent(new Event("input", { bubbles: true }));
  }, source);
}

async function testProgram(name, expected, problem) {
  const page = await playground(`?program=${name}`, problem);
  await click(page, "run");
  await until(page, "connect");
  await sleep(500);
  await page.screenshot({ path: join(SHOTS, `playground_${name}.png`) });
  await speed(page, 1_000_000);
  await idle(page);
  const text = (await events(page)).join("\n");
  if (!text.includes(expected)) problem(`the events lack "${expected}":\n${text.slice(-2000)}`);
  const end = await messageOf(page);
  if (end !== "The program has ended.") problem(`it says: ${end}`);
  await page.close();
}

async function testHover(problem) {
  for (const width of WIDTHS) {
    const page = await open("/playground.html?program=rot13&latency=200&seed=1", problem, width);
    await page.waitForSelector('[data-playground="run"]');
    await speed(page, 50);
    // It stops after the dot has left the box of its host.
    await page.waitForFunction(
      () => {
        const dots = [...document.querySelectorAll(".pg-stage circle")];
        const found = dots.some((dot) =>
          /bytes: Hello/.test(dot.textContent) && dot.cx.baseVal.value > 200 && dot.cx.baseVal.value < 350
        );
        if (found) document.querySelector('[data-playground="pause"]').click();
        return found;
      },
      { timeout: 60_000 },
    );
    await sleep(500);
    const dot = await page.evaluateHandle(() =>
      [...document.querySelectorAll(".pg-stage circle")].find((circle) => /bytes: Hello/.test(circle.textContent))
    );
    await dot.asElement().hover();
    const text = await page.$eval(".pg-hover", (element) => element.textContent);
    if (!/client → server: 6 bytes: Hello/.test(text)) problem(`at ${width[0]} it shows: ${text}`);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 1) problem(`a run is ${over} pixels too wide at ${width[0]}`);
    await page.$eval(".pg-stage", (element) => element.scrollIntoView());
    await page.screenshot({ path: join(SHOTS, `playground_hover_${width[0]}.png`) });
    await page.close();
  }
}

function difference([a, b]) {
  const at = a.events.findIndex((event, i) => event !== b.events[i]);
  if (at < 0) return `${a.events.length} and ${b.events.length} events, ${a.hash} ${a.url} ${b.hash} ${b.url}`;
  return `event ${at} is ${a.events[at]} and ${b.events[at]}`;
}

async function testSameAddress(problem) {
  const runs = [];
  for (let i = 0; i < 2; i++) {
    const page = await playground("?program=chat&seed=42&jitter=80&cut=50", problem);
    await speed(page, i === 0 ? 10_000 : 1_000_000);
    await idle(page);
    runs.push({
      events: await events(page),
      hash: await page.$eval(".pg", (element) => element.dataset.hash),
      url: page.url(),
    });
    await page.close();
  }
  if (runs[0].events.length < 50) problem(`only ${runs[0].events.length} events`);
  if (JSON.stringify(runs[0]) !== JSON.stringify(runs[1])) problem(`the second run differs: ${difference(runs)}`);
  if (!runs[0].url.includes("seed=42") || !runs[0].url.includes("#")) problem(`the address is ${runs[0].url}`);
  const other = await playground("?program=chat&seed=43&jitter=80&cut=50", problem);
  await speed(other, 1_000_000);
  await idle(other);
  if (await other.$eval(".pg", (element) => element.dataset.hash) === runs[0].hash) {
    problem("another seed gives the same run");
  }
  await other.close();
}

/** The time of the last event with a text, in virtual milliseconds; undefined if there is none. */
async function timeOf(page, text) {
  const found = (await events(page)).filter((event) => event.includes(text)).at(-1);
  return found === undefined ? undefined : Number(/^[\d.]+/.exec(found)[0]);
}

/** Waits until the virtual clock has come to a time. */
async function clockAt(page, ms) {
  await page.waitForFunction(
    (least) => Number.parseFloat(document.querySelector(".pg-head span").textContent) >= least,
    { timeout: 60_000 },
    ms,
  );
}

async function testPartition(problem) {
  const page = await playground("?program=chat", problem);
  await speed(page, 1000);
  await click(page, "run");
  await until(page, " hears ", 9);
  await click(page, "partition");
  await until(page, "reader partition");
  const cut = await timeOf(page, "reader partition");
  await clockAt(page, cut + 1500);
  await page.screenshot({ path: join(SHOTS, "playground_partition.png") });
  await click(page, "heal");
  await until(page, "reader heal");
  const healed = await timeOf(page, "reader heal");
  await clockAt(page, healed + 500);
  const heard = (await events(page)).filter((text) => text.includes(" hears ")).map((text) => Number.parseFloat(text));
  // Packets on their way arrive.
  const through = heard.filter((at) => at > cut + 60 && at < healed);
  if (through.length > 0) problem(`messages came through the partition at ${through}`);
  if (!heard.some((at) => at > healed)) problem("no message came after the heal");
  await page.close();
}

async function testCrash(problem) {
  const page = await playground("?program=chat", problem);
  await speed(page, 1000);
  await click(page, "run");
  await until(page, " hears ", 9);
  await page.select('[data-playground="host"]', "server");
  await click(page, "crash");
  await until(page, "reader crash");
  const crashed = await timeOf(page, "reader crash");
  await clockAt(page, crashed + 1000);
  await page.screenshot({ path: join(SHOTS, "playground_crash.png") });
  await click(page, "restart");
  await until(page, "reader restart");
  const restarted = await timeOf(page, "reader restart");
  await clockAt(page, restarted + 3000);
  const heard = (await events(page)).filter((text) => text.includes(" hears ")).map((text) => Number.parseFloat(text));
  const through = heard.filter((at) => at > crashed + 60 && at < restarted);
  if (through.length > 0) problem(`messages came from a host that has crashed, at ${through}`);
  if (!heard.some((at) => at > restarted)) problem("no message came after the restart");
  await page.close();
}

async function testActions(problem) {
  const page = await playground("?program=chat", problem);
  await speed(page, 1000);
  await click(page, "run");
  await until(page, " hears ", 6);
  await click(page, "partition");
  await until(page, "partition");
  await page.$eval('[data-playground="latency"]', (slider) => {
    slider.value = "120";
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  });
  await sleep(500);
  await click(page, "heal");
  await until(page, "reader heal");
  await speed(page, 1_000_000);
  await idle(page);
  const [first, hash, url] = [
    await events(page),
    await page.$eval(".pg", (element) => element.dataset.hash),
    page.url(),
  ];
  if (!/actions=.*partition.*latencyMs.*heal/.test(decodeURIComponent(url))) problem(`the address is ${url}`);
  await page.close();
  // The slider was moved. The run begins with its first value.
  const again = await playground(url.slice(url.indexOf("?")), problem);
  await speed(again, 1_000_000);
  await idle(again);
  const second = await events(again);
  if (JSON.stringify(second) !== JSON.stringify(first)) {
    problem(`the address does not give the same events: ${difference([{ events: first }, { events: second }])}`);
  }
  if (await again.$eval(".pg", (element) => element.dataset.hash) !== hash) {
    problem("the address does not repeat the run");
  }
  await again.close();
}

async function testPause(problem) {
  const page = await playground("?program=chat", problem);
  await speed(page, 1000);
  await click(page, "run");
  await until(page, " hears ");
  await click(page, "pause");
  await sleep(300);
  const before = (await events(page)).length;
  await sleep(600);
  if ((await events(page)).length !== before) problem("the events go on");
  await click(page, "step");
  await page.waitForFunction(
    (count) => document.querySelectorAll('[data-playground="events"] li').length > count,
    { timeout: 10_000 },
    before,
  ).catch(() => problem("a step shows nothing"));
  await click(page, "pause");
  await until(page, " hears ", 40);
  await page.close();
}

async function testExplore(problem) {
  const page = await playground("?program=retry", problem);
  await click(page, "explore");
  await page.waitForFunction(
    () => /fails after/.test(document.querySelector('[data-playground="message"]').textContent),
    { timeout: 120_000 },
  );
  const found = await messageOf(page);
  console.log(`       ${found}`);
  if (!/the bank has booked \d+ cents/.test(found)) problem(`another failure was found: ${found}`);
  if (!/with [123] faults? /.test(found)) problem(`it was not made short: ${found}`);
  const url = page.url();
  await page.close();
  const again = await playground(url.slice(url.indexOf("?")), problem);
  await speed(again, 1_000_000);
  await idle(again);
  if (!/the bank has booked \d+ cents/.test(await messageOf(again))) problem(`repeated: ${await messageOf(again)}`);
  await again.screenshot({ path: join(SHOTS, "playground_explored.png") });
  await again.close();
}

async function testLoop(problem) {
  const page = await playground("", problem);
  for (
    const source of ["for (;;);", "for (;;) await null;", "for (;;) await sim.advance(0);"]
  ) {
    await write(page, `export default async function (sim) {\n  ${source}\n}\n`);
    await speed(page, 1_000_000);
    await click(page, "run");
    await idle(page, 60_000);
    const text = await messageOf(page);
    if (!/Stopped: .*(endless loop|SIM_LIVELOCK)/.test(text)) problem(`${source} gives: ${text}`);
  }
  await page.select('[data-playground="program"]', "rot13");
  await click(page, "run");
  await idle(page);
  if (await messageOf(page) !== "The program has ended.") problem("the page does not live on");
  await page.close();
}

async function testErrors(problem) {
  const page = await playground("", problem);
  const cases = [
    ["export default async function () {\n  null.x;\n}\n", /TypeError: .*\(line 2\)/],
    [
      "export default async function (sim) {\n  sim.setTimer(5, () => {\n    throw new Error('later');\n  });\n  await sim.advance(50);\n}\n",
      /Error: later \(line 3\)/,
    ],
    [
      "export default async function () {\n  Promise.reject(new Error('unheard'));\n  await new Promise((done) => setTimeout(done, 50));\n}\n",
      /unheard/,
    ],
    ["const a = ;\n", /SyntaxError/],
    ["import fs from 'node:fs';\n", /playground has "trivent" only/],
    ["await fetch('/');\n", /Cannot use fetch: the playground has no network but the simulator's \(line 1\)/],
    ["await import('/assets/app.js');\n", /Cannot use import\(\)/],
    [
      "await 1;\nimport { serve } from 'trivent';\nawait serve({ hostname: '127.0.0.1', port: -1 }, {});\n",
      /RangeError: .*\(line 3\)/,
    ],
  ];
  for (const [source, expected] of cases) {
    await write(page, source);
    await speed(page, 1_000_000);
    await click(page, "run");
    await idle(page);
    const text = await messageOf(page);
    if (!expected.test(text)) problem(`${JSON.stringify(source)} gives: ${text}`);
  }
  await page.close();
}

async function testShown(problem) {
  const [, source] = /^```js\n([\s\S]*?)^```$/m.exec(readFileSync(join(SITE, "pages", "playground.md"), "utf8"));
  const page = await playground("", problem);
  await write(page, source);
  await speed(page, 1_000_000);
  await click(page, "run");
  await idle(page);
  if (await messageOf(page) !== "The program has ended.") problem(await messageOf(page));
  await page.close();
}

async function testBadAddress(problem) {
  for (const hash of ["#%%%", "#AAAA", "#____", "#constructor"]) {
    const page = await playground(`?program=rot13&seed=nonsense&latency=-5${hash}`, problem);
    const text = await page.$eval('[data-playground="editor"]', (editor) => editor.value);
    if (!text.includes("ROT13")) problem(`${hash} gives: ${text.slice(0, 80)}`);
    await page.close();
  }
  const page = await playground(`?seed=5#${Buffer.from("// mine\n").toString("base64url")}`, problem);
  if (await page.$eval('[data-playground="editor"]', (editor) => editor.value) !== "// mine\n") {
    problem("the program is ignored");
  }
  await page.close();
}

async function testPcap(problem) {
  const page = await playground("?program=rot13", problem);
  await speed(page, 1_000_000);
  await click(page, "run");
  await idle(page);
  const bytes = await page.evaluate(() =>
    new Promise((resolve) => {
      const make = URL.createObjectURL;
      URL.createObjectURL = (blob) => {
        blob.arrayBuffer().then((buffer) => resolve([...new Uint8Array(buffer)]));
        return make.call(URL, blob);
      };
      document.querySelector('[data-playground="pcap"]').click();
    })
  );
  await page.close();
  const file = join(SHOTS, "rot13.pcapng");
  writeFileSync(file, Uint8Array.from(bytes));
  if (bytes.length < 500) problem(`the file has ${bytes.length} bytes`);
  const tshark = find("tshark");
  if (tshark === undefined) return void skipped.push("nothing reads the pcap: there is no tshark");
  const text = execFileSync(tshark, ["-r", file, "-T", "fields", "-e", "tcp.payload"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const payload = Buffer.from(text.replaceAll(/\s/g, ""), "hex").toString();
  if (!payload.includes("Hello\nUryyb\n")) problem(`tshark reads ${JSON.stringify(payload.slice(0, 200))}`);
}

async function testSmall(problem) {
  const page = await open("/", problem, WIDTHS[1]);
  await page.waitForSelector('[data-playground="start"]');
  await click(page, "start");
  await page.waitForSelector('[data-playground="events"] li');
  await until(page, "data");
  await page.$eval(".pg", (element) => element.scrollIntoView());
  await page.screenshot({ path: join(SHOTS, "playground_small.png") });
  if (page.url() !== `${origin}/`) problem("the address of the home page has changed");
  await page.close();
}
