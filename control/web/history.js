// What ran: the table of runs, and the page of all of them.

import { get } from "./api.js";
import { arrange, cell, make, name, setText, table } from "./dom.js";
import { moment, several } from "./format.js";
import {
  archiveHref,
  empty,
  historyHref,
  lastPart,
  planLink,
  runHref,
  sizes,
  stateMark,
  time,
  tookOf,
} from "./parts.js";
import { kindOf, reasonOf } from "./words.js";

const AT_ONCE = 50;
const MOST_AT_ONCE = 1_000;

/** A table of runs. */
export class RunTable {
  constructor(label, { isOfPlan = false } = {}) {
    this.isOfPlan = isOfPlan;
    const columns = {
      state: "State",
      what: isOfPlan ? "What" : "Plan",
      when: "When",
      took: "Took",
      size: "Archive",
      said: "Message",
    };
    const made = table(label, "runs", columns);
    this.element = made.element;
    this.body = made.body;
    this.rows = new Map();
  }

  show(runs, now_s) {
    const rows = new Map();
    for (const run of runs) {
      const key = JSON.stringify(run);
      const before = this.rows.get(run.run_id);
      const row = before?.key === key ? before : { key, element: this.row(run, now_s) };
      rows.set(run.run_id, row);
    }
    this.rows = rows;
    arrange(
      this.body,
      [...rows.values()].map(({ element }) => element),
    );
  }

  row(run, now_s) {
    const state = make(
      "a",
      { href: runHref(run.run_id), "aria-label": `run ${run.run_id}: ${run.state}` },
      stateMark(run.state),
    );
    const what = [
      this.isOfPlan ? null : planLink(run.plan),
      make("span", { class: "second" }, `${kindOf(run.kind)}, ${reasonOf(run.reason)}`),
    ];
    const archive =
      run.archive !== "" && run.state !== "failed"
        ? make(
            "a",
            { href: archiveHref(run.plan, run.archive), class: "archive-name" },
            name(lastPart(run.archive)),
          )
        : null;
    const began_s = run.started_s ?? run.due_s;
    const size = make("span", { class: "second" }, sizes(run));
    return make(
      "tr",
      { role: "row" },
      cell("state", state),
      cell("what", ...what),
      cell("when", time(began_s, moment(began_s))),
      cell("took", tookOf(run, now_s)),
      cell("size", archive, size),
      cell("said", make("bdi", {}, run.message)),
    );
  }
}

/** The page of all runs. What is asked for stands in the address. */
export function historyPage(app, asked) {
  const plan = asked.get("plan") ?? "";
  const isFailed = asked.get("failed") === "1";
  let runs = [];
  let hasMore = false;
  let seen = null;
  let isClosed = false;

  const heading = make("h1", { tabindex: "-1" }, "History");
  const chips = make(
    "div",
    { class: "chips", role: "group", "aria-label": "Which runs" },
    choice("All runs", false),
    choice("Failed, missed or lost", true),
  );
  const plans = make("select", {
    "aria-label": "Runs of which plan",
    on: { change: () => (location.hash = historyHref(plans.value, isFailed)) },
  });
  const made = new RunTable("Runs");
  const nothing = make("div", { hidden: true });
  const problem = make("p", { class: "problem", role: "alert", hidden: true });
  const older = make(
    "button",
    { type: "button", hidden: true, on: { click: loadOlder } },
    "Show older runs",
  );
  const element = make(
    "div",
    {},
    heading,
    make(
      "div",
      { class: "tools" },
      chips,
      make("label", { class: "order" }, make("span", {}, "Plan:"), plans),
    ),
    problem,
    made.element,
    nothing,
    make("p", { class: "buttons" }, older),
  );
  made.element.hidden = true;

  function choice(word, value) {
    const isThis = value === isFailed;
    return make(
      "a",
      { href: historyHref(plan, value), class: "chip", "aria-current": isThis && "true" },
      word,
    );
  }

  async function ask(limit, before = null) {
    const query = new URLSearchParams({ limit });
    if (plan !== "") query.set("plan", plan);
    if (isFailed) query.set("failed", "1");
    if (before !== null) query.set("before", before);
    return (await get(`/api/runs?${query}`)).runs;
  }

  async function load(work) {
    try {
      await work();
      problem.hidden = true;
    } catch (error) {
      setText(problem, `The history can't be shown: ${error.message}.`);
      problem.hidden = false;
      seen = null;
    }
    if (!isClosed) show();
  }

  function loadNewest() {
    return load(async () => {
      // As many as are shown, as any of them may have changed.
      const limit = Math.min(Math.max(runs.length, AT_ONCE), MOST_AT_ONCE);
      const found = await ask(limit);
      const last = found.at(-1)?.run_id ?? 0;
      const isGap = found.length === limit && last > (runs[0]?.run_id ?? 0);
      if (isGap || runs.length === 0) hasMore = found.length === limit;
      runs = [...found, ...(isGap ? [] : runs.filter((run) => run.run_id < last))];
    });
  }

  function loadOlder() {
    return load(async () => {
      const found = await ask(AT_ONCE, runs.at(-1).run_id);
      runs = [...runs, ...found];
      hasMore = found.length === AT_ONCE;
      if (!hasMore) heading.focus({ preventScroll: true });
    });
  }

  function show() {
    made.show(runs, app.now_s());
    made.element.hidden = runs.length === 0;
    older.hidden = !hasMore;
    nothing.hidden = runs.length > 0 || !problem.hidden;
    const said = isFailed ? "No run has failed, was missed or lost." : "Nothing has run yet.";
    nothing.replaceChildren(empty(said));
  }

  function showPlans() {
    const names = app.store.status.volumes.map((volume) => volume.plan).sort();
    if (plan !== "" && !names.includes(plan)) names.push(plan);
    if (plans.childElementCount === names.length + 1) return;
    plans.replaceChildren(
      make("option", { value: "" }, `all ${several(names.length, "plan")}`),
      ...names.map((each) => make("option", { value: each }, each)),
    );
    plans.value = plan;
  }

  function update() {
    showPlans();
    const now = changesOf(app.store.status);
    if (now === seen) return;
    seen = now;
    loadNewest();
  }

  return {
    element,
    heading,
    title: () => (plan === "" ? "History" : `History of ${plan}`),
    update,
    close: () => (isClosed = true),
  };
}

/** Something that differs when a run began, went on or ended. */
export function changesOf(status, plan = null) {
  return status.volumes
    .filter((volume) => plan === null || volume.plan === plan)
    .map(({ last, run }) => [last?.run_id, run?.run_id, run?.state, run?.attempt])
    .join(";");
}
