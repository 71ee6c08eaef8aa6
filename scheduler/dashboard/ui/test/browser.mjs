// The dashboard in a real browser, against a real cluster. Run by tools/test-ui.sh, which starts the cluster.
//
// usage: node test/browser.mjs BASE TOKEN GUESTS SCREENSHOTS
//
// Every page is opened, in both themes and at a phone's width, and kept as a picture. A word on the console, a request to anywhere else, or
// something that a screen reader cannot use fails the run.

import assert from "node:assert/strict";
import { mkdtemp, mkdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [base, token, guests, shots] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Asks the API as a program does. */
async function api(method, path, body) {
  const init = { method, headers: { authorization: `Bearer ${token}` } };
  if (body !== undefined) init.body = body instanceof Uint8Array ? body : JSON.stringify(body);
  const response = await fetch(`${base}/api/v1/${path}`, init);
  const answer = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${JSON.stringify(answer)}`);
  return answer;
}

async function store(guest) {
  return (await api("POST", "artifacts", await readFile(join(guests, `${guest}.wasm`)))).digest;
}

const submit = (artifact, work) => api("POST", "jobs", { artifact, ...work });

async function eventually(what, look) {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((done) => setTimeout(done, 100))) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`${what}: not within a minute`);
}

const ended = (job) => eventually(`job ${job} has ended`, async () => (await api("GET", `jobs/${job}`)).state !== "running");

const profile = await mkdtemp(join(tmpdir(), "rwasm-browser-"));
await rm(shots, { recursive: true, force: true });
await mkdir(shots, { recursive: true });
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: FLAGS,
  viewport: { width: 1320, height: 860 },
  colorScheme: "light",
});
const page = context.pages()[0] ?? (await context.newPage());
const complaints = [];
let mayRefuse = false;
page.on("console", (message) => {
  // A refused request is a word on the console too; where one is wanted, it is no complaint.
  if (["error", "warning"].includes(message.type()) && !mayRefuse) complaints.push(`console: ${message.text()}`);
});
page.on("pageerror", (error) => complaints.push(`error: ${error.stack ?? error.message}`));
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !request.url().startsWith("data:")) complaints.push(`a request to ${request.url()}`);
});

const done = [];
async function check(what, act) {
  await act();
  assert.deepEqual(complaints, [], what);
  done.push(what);
  console.log(`ok: ${what}`);
}
const picture = (name) => page.screenshot({ path: join(shots, `${name}.png`) });
const heading = (name) => page.getByRole("heading", { level: 1, name }).waitFor();

/** What keeps people out who do not see the page, or use no mouse. */
async function usable(what) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] });
    return violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
  });
  assert.deepEqual(found, [], `${what} is usable without seeing it`);
}

try {
  await check("without a session there is only the sign-in, and a wrong token is refused", async () => {
    mayRefuse = true;
    await page.goto(`${base}/#/jobs`);
    await heading("Sign in to rwasm");
    await usable("the sign-in");
    await picture("signin");
    await page.getByLabel("Token").fill(`rwu_${"0".repeat(16)}_${"0".repeat(64)}`);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").getByText("this cluster knows no such token").waitFor();
    await picture("signin-refused");
  });

  await check("a token opens the page that was wanted, and is nowhere to be read", async () => {
    await page.getByLabel("Token").fill(token);
    await page.keyboard.press("Enter");
    await heading("Jobs");
    mayRefuse = false;
    const kept = await page.evaluate(() => JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }, location.href]));
    assert.ok(!kept.includes(token));
    const cookies = await context.cookies();
    assert.deepEqual(cookies.map((cookie) => [cookie.httpOnly, cookie.sameSite]), [[true, "Strict"]]);
  });

  // Something to look at: work that succeeds, that fails, that traps, that waits, that writes.
  const hello = await store("hello");
  // Asleep, they leave the machine to the browser.
  const evil = await store("evil-wasi");
  const words = await store("wordcount");
  await store("mandelbrot");
  const calls = Array.from({ length: 1500 }, (_, index) => [index, index % 50 === 49 ? 0 : 7]);
  const divide = await submit(hello, { name: "divide them all", export: "divide", calls });
  const written = await submit(hello, { name: "where they run", export: "whereabouts", calls: Array.from({ length: 40 }, () => []) });
  const counted = await submit(words, { name: "count words", stdin: "to be or not to be\n" });
  for (const { job } of [divide, written, counted]) await ended(job);
  // Three of four cores are taken for ever, so what needs one runs, and what needs two of one node waits.
  const spins = await submit(evil, { name: "sleep for ever", export: "sleep-for", calls: [[3600000], [3600000], [3600000]] });
  await eventually("tasks run", async () => (await api("GET", `jobs/${spins.job}`)).tasks.running === 3);
  const waits = await submit(hello, { name: "wait for two cores", export: "greet", calls: [["you"]], options: { cpus: 2 } });

  await check("the overview shows what goes on, live", async () => {
    await page.goto(`${base}/#/overview`);
    await heading("Overview");
    await page.getByText("live", { exact: true }).waitFor();
    await page.getByText("sleep for ever").waitFor();
    await page.getByText("RW0411").first().waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".chart canvas").length >= 2);
    await usable("the overview");
    await picture("overview");
  });

  await check("a job that is submitted elsewhere appears by itself, and its end too", async () => {
    await page.goto(`${base}/#/jobs`);
    await heading("Jobs");
    const { job } = await submit(hello, { name: "from elsewhere", export: "greet", calls: [["you"]] });
    const row = page.getByRole("row").filter({ hasText: "from elsewhere" });
    await row.getByText("succeeded").waitFor();
    await row.getByRole("link", { name: job }).waitFor();
    await usable("the jobs");
    await picture("jobs");
    await page.getByLabel("Name").fill("ELSE");
    await page.getByText("1 job", { exact: true }).waitFor();
    await page.getByLabel("State").selectOption("failed");
    await page.getByText("No job fits.").waitFor();
  });

  await check("a job shows its tasks, output, results, time and artifacts", async () => {
    await page.goto(`${base}/#/jobs/${divide.job}`);
    await heading("divide them all");
    await page.getByText("1,500 tasks").waitFor();
    await usable("a job");
    await picture("job");
    await page.getByLabel("State").selectOption("failed");
    await page.getByText("30 tasks").waitFor();
    await page.getByRole("tab", { name: "Tasks" }).press("ArrowRight");
    await page.getByText("It wrote nothing.").waitFor();
    await page.getByRole("tab", { name: "Results" }).click();
    await page.getByText("1,500 so far, all").waitFor();
    await picture("job-results");
    await page.getByRole("tab", { name: "Timeline" }).click();
    await page.getByRole("img", { name: /1,500 tasks ran/ }).waitFor();
    await picture("job-timeline");
    await page.getByRole("tab", { name: "Artifacts" }).click();
    await page.getByText("dividend").waitFor();
    await picture("job-artifacts");
  });

  await check("tasks of any number are listed, filtered, and fetched as they are scrolled to", async () => {
    await page.goto(`${base}/#/tasks?job=${divide.job}`);
    await page.getByText("1,500 tasks").waitFor();
    await usable("the tasks");
    const rows = page.getByRole("rowgroup", { name: "Tasks, rows" });
    for (const end = Date.now() + 60_000; !(await page.getByRole("link", { name: `t${divide.job.slice(1)}-0`, exact: true }).isVisible()); ) {
      assert.ok(Date.now() < end, "the oldest task is reached");
      await rows.evaluate((element) => element.scrollTo(0, element.scrollHeight));
    }
    assert.ok((await page.locator(".table-row").count()) < 100, "rows out of sight are not there");
    await picture("tasks-oldest");
    await page.goto(`${base}/#/tasks?state=failed`);
    await page.getByRole("row").filter({ hasText: "RW0411" }).first().waitFor();
    await picture("tasks");
  });

  await check("a task says why it waits, and why it failed", async () => {
    const waiting = await eventually("a task waits", async () => (await api("GET", `tasks?job=${waits.job}&state=queued&limit=1`)).rows[0]);
    await page.goto(`${base}/#/tasks/${waiting.id}`);
    await page.getByText(/waits for cpu 2/).waitFor();
    await usable("a task");
    await picture("task-waiting");
    await page.goto(`${base}/#/tasks/t${divide.job.slice(1)}-49`);
    await page.getByText(/cannot be divided by 0/).first().waitFor();
    await picture("task-failed");
  });

  await check("nodes show what they give and what is held", async () => {
    await page.goto(`${base}/#/nodes`);
    await page.getByText("2 alive").waitFor();
    await page.getByRole("meter", { name: "Cores" }).first().waitFor();
    await usable("the nodes");
    await picture("nodes");
  });

  await check("output is followed and searched", async () => {
    await page.goto(`${base}/#/logs?job=${written.job}`);
    await page.getByText("40 lines").waitFor();
    await usable("the logs");
    await picture("logs");
    await page.getByLabel("Search").fill("TASK T");
    await page.getByText("40 lines").waitFor();
    await page.getByLabel("Search").fill("nothing has this");
    await page.getByText("No line holds the text.").waitFor();
    await page.goto(`${base}/#/logs?job=${counted.job}`);
    await page.getByText(/\bto\b/).first().waitFor();
  });

  await check("the timeline is live, zooms and moves by keys", async () => {
    await page.goto(`${base}/#/timeline`);
    const canvas = page.getByRole("img", { name: /tasks? ran from/ });
    await page.getByText(/the longest|tasks$/).first().waitFor();
    await eventually("something is drawn", () =>
      canvas.evaluate((element) => {
        const { data } = element.getContext("2d").getImageData(0, 40, element.width, element.height - 40);
        return data.some((value) => value !== 0);
      }),
    );
    await usable("the timeline");
    await picture("timeline");
    await canvas.focus();
    await page.keyboard.press("+");
    await page.getByRole("button", { name: "Go live" }).waitFor();
    await page.keyboard.press("ArrowLeft");
    await page.getByRole("button", { name: "Go live" }).click();
    await page.getByRole("button", { name: "Live", exact: true }).waitFor();
  });

  await check("artifacts show their signatures and needs", async () => {
    await page.goto(`${base}/#/artifacts`);
    await page.getByText("4 stored").waitFor();
    await usable("the artifacts");
    await picture("artifacts");
    await page.goto(`${base}/#/artifacts/${hello}`);
    await page.getByText("dividend").waitFor();
    await usable("an artifact");
    await picture("artifact");
  });

  await check("events tell what happened", async () => {
    await page.goto(`${base}/#/events`);
    await page.getByText("Job").first().waitFor();
    await page.getByText(/Node n2 .* joined/).waitFor();
    await usable("the events");
    await picture("events");
  });

  await check("a running job is stopped, after a question", async () => {
    await page.goto(`${base}/#/jobs/${spins.job}`);
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await picture("stop");
    await page.getByRole("button", { name: "Keep it" }).click();
    assert.equal((await api("GET", `jobs/${spins.job}`)).state, "running");
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.getByRole("button", { name: "Stop it" }).click();
    await page.locator(".title").getByText("cancelled").waitFor();
  });

  await check("a .wasm becomes a form, and its call a result", async () => {
    await page.goto(`${base}/#/submit`);
    await heading("Submit");
    await usable("the empty submit");
    await picture("submit-empty");
    await page.getByLabel("Choose a file").setInputFiles(join(guests, "hello.wasm"));
    await page.getByRole("radio", { name: /divide/ }).check();
    await page.getByRole("textbox", { name: /^dividend/ }).fill("seven");
    await page.getByText("a whole number is needed").waitFor();
    await eventually("nothing can be run", () => page.getByRole("button", { name: "Run" }).isDisabled());
    await page.getByRole("textbox", { name: /^dividend/ }).fill("9223372036854775807");
    await page.getByRole("textbox", { name: /^divisor/ }).fill("7");
    await usable("the form");
    await picture("submit-form");
    await page.getByRole("button", { name: "Run" }).click();
    await page.locator(".value-text").getByText("1317624576693539401").waitFor();
    await picture("submit-result");
    await page.getByRole("radio", { name: /spread/ }).check();
    for (const number of ["3", "1.5", "2"]) {
      await page.getByRole("button", { name: "Add to values" }).click();
      await page.locator("form.call input.number").nth((await page.getByRole("button", { name: /^Remove/ }).count()) - 1).fill(number);
    }
    await page.getByRole("button", { name: "Run" }).click();
    await page.locator(".value-text").getByText("2.1666666666666665").waitFor();
    await picture("submit-list");
  });

  await check("a command takes arguments and standard input, and its output is followed", async () => {
    await page.goto(`${base}/#/submit?artifact=${words}`);
    await page.getByLabel("Standard input").fill("a b a");
    await page.getByRole("button", { name: "Run" }).click();
    await page.locator(".log-box").getByText(/\ba\b/).first().waitFor();
    await picture("submit-command");
  });

  await check("what is no WebAssembly is refused with its code", async () => {
    mayRefuse = true;
    await page.goto(`${base}/#/submit`);
    await page.getByLabel("Choose a file").setInputFiles({ name: "a.wasm", mimeType: "application/wasm", buffer: Buffer.from("not this") });
    await page.getByText("RW0101").waitFor();
    await picture("submit-refused");
    mayRefuse = false;
  });

  await check("the dark theme is kept", async () => {
    await page.goto(`${base}/#/overview`);
    await page.getByRole("button", { name: "Use the dark theme" }).click();
    await page.reload();
    await heading("Overview");
    await page.getByText("live", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    for (const name of ["overview", "jobs", "tasks", "nodes", "timeline", "logs", "artifacts", "events"]) {
      await page.goto(`${base}/#/${name}`);
      await heading(name === "overview" ? "Overview" : new RegExp(name, "i"));
      // The network is never idle: events come for as long as the page is open.
      await page.getByText("Loading", { exact: true }).first().waitFor({ state: "detached" });
      await usable(`${name}, dark`);
      await picture(`dark-${name}`);
    }
    await page.goto(`${base}/#/submit?artifact=${hello}`);
    await page.getByLabel("name", { exact: false }).first().waitFor();
    await picture("dark-submit");
    await page.getByRole("button", { name: "Use the light theme" }).click();
  });

  await check("at a phone's width nothing is cut off", async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    for (const name of ["overview", "jobs", "tasks", "nodes", "timeline", "logs", "artifacts", "events", "submit"]) {
      await page.goto(`${base}/#/${name}`);
      await heading(new RegExp(name, "i"));
      await eventually("the page is as wide as the screen", () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
      await picture(`phone-${name}`);
    }
    await page.goto(`${base}/#/jobs/${divide.job}`);
    await heading("divide them all");
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await picture("phone-job");
    await page.setViewportSize({ width: 1320, height: 860 });
  });

  await check("signing out ends the session, everywhere", async () => {
    mayRefuse = true;
    await page.getByRole("button", { name: "Sign out" }).click();
    await heading("Sign in to rwasm");
    assert.equal(await page.evaluate(() => fetch("/api/v1/jobs").then((answer) => answer.status)), 401);
  });
  console.log(`${done.length} checks passed; pictures are in ${shots}`);
} catch (error) {
  await picture("failed").catch(() => {});
  console.error(complaints.join("\n"));
  throw error;
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
