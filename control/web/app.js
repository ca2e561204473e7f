// The page as a whole: which page of it is shown, by what is behind # in the address, and what all
// of them need: the status, asked for again and again; plans; the calendar.

import { makeActions } from "./actions.js";
import { get } from "./api.js";
import { archivePage } from "./archive.js";
import { make, setAttribute, setText } from "./dom.js";
import { moment, several } from "./format.js";
import { historyPage } from "./history.js";
import { overviewPage } from "./overview.js";
import { empty } from "./parts.js";
import { planPage } from "./plan.js";
import { Poller } from "./poll.js";
import { runPage } from "./run.js";
import { isOpen } from "./words.js";

const DAYS = 30;
const REFRESH_MS = 300_000;

const main = document.getElementById("main");
const connection = document.getElementById("connection");

const store = { status: null, plans: new Map(), calendar: null };
let clockAhead_s = 0;
let page = null;
let endings = "";
let refreshed_ms = -Infinity;

const app = {
  store,
  /** The time by the server's clock. */
  now_s: () => Date.now() / 1000 + clockAhead_s,
  /** Ask for the status now. */
  refresh: () => poller.now(),
  /** Ask for plans anew too. */
  refreshAll: async () => {
    refreshed_ms = -Infinity;
    await poller.now();
  },
  volume: (plan) => store.status?.volumes.find((volume) => volume.plan === plan) ?? null,
};
app.actions = makeActions(app.refreshAll);

const poller = new Poller(askStatus, (error, pause_s) => {
  if (error.status === 401) return;
  const since = store.status === null ? "" : `This is as it was at ${moment(store.status.now_s)}. `;
  const again = `Trying again in ${several(pause_s, "second")}.`;
  const what = error.status === 0 ? "No connection" : "This can't be shown";
  setText(connection, `${what}: ${error.message}. ${since}${again}`);
  connection.hidden = false;
});

async function askStatus() {
  // Without the plans nobody knows what is late, and what is first would change places soon.
  const isFirst = store.status === null;
  const [status] = await Promise.all([
    get("/api/status"),
    isFirst ? askPlans().catch(() => null) : null,
  ]);
  clockAhead_s = status.now_s - Date.now() / 1000;
  store.status = status;
  connection.hidden = true;
  update();
  markOnce("onggi-status-shown");
  showServer();
  await refreshRest(status, isFirst);
  return status.volumes.some((volume) => isOpen(volume.run?.state));
}

async function askPlans() {
  const { plans } = await get("/api/plans");
  store.plans = new Map(plans.map((plan) => [plan.name, plan]));
}

/** Ask for what seldom changes, when it may have. */
async function refreshRest(status, isFirst) {
  const now = status.volumes
    .map(({ plan, last, is_paused }) => [plan, last?.run_id, is_paused])
    .join();
  if (now === endings && performance.now() - refreshed_ms < REFRESH_MS) return;
  endings = now;
  refreshed_ms = performance.now();
  const asked = [get(`/api/calendar?days=${DAYS}`), isFirst ? null : askPlans()];
  const [calendar] = await Promise.allSettled(asked);
  if (calendar.status === "fulfilled") store.calendar = calendar.value;
  update();
  markOnce("onggi-all-shown");
}

/** For those who measure how quick the page is. */
function markOnce(mark) {
  if (performance.getEntriesByName(mark).length === 0) performance.mark(mark);
}

function update() {
  if (store.status === null || page === null) return;
  page.update();
  setText(document.querySelector("title"), `${page.title()} - Onggi`);
}

function showServer() {
  const { version, started_s } = store.status;
  setText(
    document.getElementById("server"),
    `Onggi ${version} on ${location.host}, started ${moment(started_s)}`,
  );
}

// --- pages by address ----------------------------------------------------------------------------

const PAGES = [
  [/^\/?$/, (_, asked) => overviewPage(app, asked), "to-volumes"],
  [/^\/history$/, (_, asked) => historyPage(app, asked), "to-history"],
  [/^\/plan\/([^/]+)$/, ([plan]) => planPage(app, plan), "to-volumes"],
  [
    /^\/plan\/([^/]+)\/archive\/([^/]+)$/,
    ([plan, path]) => archivePage(app, plan, path),
    "to-volumes",
  ],
  [/^\/run\/(\d+)$/, ([run_id]) => runPage(app, Number(run_id)), "to-history"],
];

function findPage() {
  const [path, asked = ""] = location.hash.slice(1).split("?", 2);
  for (const [pattern, makePage, tab] of PAGES) {
    const found = pattern.exec(path);
    if (found === null) continue;
    try {
      return [makePage(found.slice(1).map(decodeURIComponent), new URLSearchParams(asked)), tab];
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
    }
  }
  return [noPage(), ""];
}

function noPage() {
  const heading = make("h1", { tabindex: "-1" }, "Nothing here");
  const text = empty("There is no such page. ", make("a", { href: "#/" }, "All volumes"), ".");
  const element = make("div", {}, heading, text);
  return { element, heading, title: () => "Nothing here", update() {}, close() {} };
}

function showPage(isFirst) {
  page?.close();
  const [found, tab] = findPage();
  page = found;
  main.replaceChildren(page.element);
  for (const id of ["to-volumes", "to-history"]) {
    setAttribute(document.getElementById(id), "aria-current", id === tab ? "page" : null);
  }
  update();
  if (isFirst) return;
  scrollTo(0, 0);
  page.heading.focus({ preventScroll: true });
}

addEventListener("hashchange", () => showPage(false));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

showPage(true);
poller.now();
