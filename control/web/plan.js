// One plan: what it is, its run, its last days, its archives, its last runs.

import { get, planPath } from "./api.js";
import { archiveTable } from "./archive.js";
import { arrange, make, name, setAttribute, setText } from "./dom.js";
import { ago, bytes, count, dayName, moment, several, until } from "./format.js";
import { RunTable, changesOf } from "./history.js";
import {
  Mark,
  Progress,
  arrow,
  calendarLegend,
  dayShape,
  empty,
  facts,
  historyHref,
  momentAgo,
  runHref,
} from "./parts.js";
import { healthOf, isOpen, keepOf, scheduleOf, stateOf, verifyOf } from "./words.js";

const RUNS = 10;

/** The page of a plan. */
export function planPage(app, plan) {
  let seen = null;
  let shownCalendar = null;
  let progress = null;
  let isClosed = false;

  const heading = make("h1", { tabindex: "-1", class: "plan-name" }, name(plan));
  const mark = new Mark();
  const way = make("p", { class: "second path" });
  const state = make("p", { class: "lead" });
  const work = make("div", { class: "work", hidden: true });
  const about = make("div");
  const problem = make("p", { class: "problem", role: "alert", hidden: true });
  const days = make("ol", { class: "days" });
  const runs = new RunTable(`Last runs of ${plan}`, { isOfPlan: true });
  const runsPlace = make("div");
  const archives = make("div");
  const archivesHeading = make("h2", {}, "Archives");

  const run = app.actions.run(plan);
  run.classList.add("strong");
  const verify = app.actions.verify(plan);
  const pause = app.actions.pause(plan);
  const resume = app.actions.resume(plan);
  const cancel = app.actions.cancel(plan, () => app.volume(plan).run);
  const mounting = [app.actions.mount(plan), app.actions.umount(plan)];
  const buttons = make("div", { class: "buttons" });

  const element = make(
    "div",
    { class: "plan" },
    make("p", { class: "up" }, make("a", { href: "#/" }, "Volumes")),
    heading,
    way,
    state,
    buttons,
    problem,
    work,
    make("section", {}, make("h2", {}, "Last 30 days"), days, calendarLegend()),
    make("section", {}, archivesHeading, archives),
    make(
      "section",
      {},
      make("h2", {}, "Last runs"),
      runsPlace,
      make(
        "p",
        { class: "links" },
        make("a", { href: historyHref(plan, false) }, "All runs of this plan"),
        make("a", { href: historyHref(plan, true) }, "Those that failed"),
      ),
    ),
    make("section", {}, make("h2", {}, "Plan"), about),
  );

  function update() {
    const volume = app.volume(plan);
    const now_s = app.now_s();
    showState(volume, now_s);
    showWork(volume, now_s);
    const fields = app.store.plans.get(plan);
    if (fields !== undefined) showAbout(fields, now_s);
    if (app.store.calendar !== shownCalendar) showDays(app.store.calendar);
    const now = changesOf(app.store.status, plan);
    if (now !== seen) {
      seen = now;
      load();
    }
  }

  function showState(volume, now_s) {
    if (volume === null) {
      setText(
        state,
        "There is no plan of this name. Runs and archives of one that was removed stay.",
      );
      buttons.hidden = work.hidden = problem.hidden = true;
      return;
    }
    const health = healthOf(volume, app.store.plans.get(plan), now_s);
    mark.update(health);
    const success_s = volume.last_success_s;
    const parts = [
      success_s === null ? "no backup has succeeded yet" : `last success ${ago(now_s - success_s)}`,
    ];
    if (!volume.is_paused) {
      const due_s = volume.next_due_s;
      parts.push(
        due_s === null ? "not scheduled" : `next run ${until(due_s - now_s)}, ${moment(due_s)}`,
      );
    }
    const text = parts.join(" \u00b7 ");
    if (state.dataset.text !== text) {
      state.dataset.text = text;
      state.replaceChildren(mark.element, make("span", {}, text));
    }
    const isAtWork = isOpen(volume.run?.state);
    setAttribute(cancel, "aria-disabled", volume.run?.state === "cancelling" || null);
    const wanted = [
      isAtWork ? cancel : run,
      verify,
      volume.is_paused ? resume : pause,
      ...mounting,
    ];
    const isFocused = buttons.contains(document.activeElement);
    arrange(buttons, wanted);
    if (isFocused && !buttons.contains(document.activeElement)) wanted[0].focus();
    showProblem(volume, health);
  }

  function showProblem(volume, health) {
    const last = volume.last;
    const isProblem = health.tone !== "good" && last !== null && last.message !== "";
    problem.hidden = !isProblem;
    if (!isProblem || problem.dataset.run === String(last.run_id)) return;
    problem.dataset.run = last.run_id;
    const log = make("a", { href: runHref(last.run_id) }, `log of run ${last.run_id}`);
    problem.replaceChildren(make("bdi", {}, last.message), " ", log);
  }

  function showWork(volume, now_s) {
    const isAtWork = isOpen(volume?.run?.state);
    work.hidden = !isAtWork;
    if (!isAtWork) return;
    if (progress === null) {
      progress = new Progress(plan);
      const log = make("a", { class: "log" }, "Watch its log");
      progress.log = log;
      work.append(progress.element, log);
    }
    setAttribute(progress.log, "href", runHref(volume.run.run_id));
    progress.update(volume.run, volume.progress, now_s);
  }

  function showAbout(fields, now_s) {
    const key = JSON.stringify(fields);
    if (about.dataset.key === key) return;
    about.dataset.key = key;
    way.replaceChildren(make("bdi", {}, fields.source), arrow(), make("bdi", {}, fields.target));
    about.replaceChildren(
      facts([
        ["Packed as", fields.mode === "auto" ? "tree or volume, whichever is better" : fields.mode],
        ["Runs", scheduleOf(fields)],
        ["Window", fields.window],
        ["Keeps", keepOf(fields.keep)],
        ["Verified", verifyOf(fields)],
        ["Retries", count(fields.retries)],
        [
          "Reads at most",
          fields.limit_bytes_per_s > 0 ? `${bytes(fields.limit_bytes_per_s)}/s` : null,
        ],
        ["Level", count(fields.level)],
        ["Stands back", fields.nice ? "behind other processes" : null],
        [
          "Leaves out",
          fields.exclude.length > 0
            ? make("bdi", { class: "path" }, fields.exclude.join("\n"))
            : null,
        ],
        ["Made", momentAgo(fields.created_s, now_s)],
      ]),
    );
  }

  function showDays(calendar) {
    shownCalendar = calendar;
    if (calendar === null) return;
    const found = new Map((calendar.plans[plan] ?? []).map((each) => [each.day, each]));
    days.replaceChildren(...calendar.days.map((day) => dayCell(day, found.get(day))));
  }

  async function load() {
    const asked = [
      get(`/api/runs?${new URLSearchParams({ plan, limit: RUNS })}`),
      get(planPath(plan, "archives")),
    ];
    const [ofRuns, ofArchives] = await Promise.allSettled(asked);
    if (isClosed) return;
    showRuns(ofRuns);
    showArchives(ofArchives);
    if ([ofRuns, ofArchives].some((each) => each.reason?.status === 0)) seen = null;
  }

  function showRuns({ value, reason }) {
    if (reason !== undefined) {
      runsPlace.replaceChildren(failed("The runs", reason));
    } else if (value.runs.length === 0) {
      runsPlace.replaceChildren(empty("Nothing has run yet."));
    } else {
      runs.show(value.runs, app.now_s());
      arrange(runsPlace, [runs.element]);
    }
  }

  function showArchives({ value, reason }) {
    if (reason !== undefined) {
      archives.replaceChildren(failed("The archives", reason));
      return;
    }
    const found = value.archives;
    setText(archivesHeading, found.length > 0 ? several(found.length, "archive") : "Archives");
    if (found.length === 0) {
      archives.replaceChildren(empty("No archive yet. The first backup makes one."));
      return;
    }
    archives.replaceChildren(...archiveTable(plan, found, app.now_s()));
  }

  return {
    element,
    heading,
    title: () => plan,
    update,
    close: () => (isClosed = true),
  };
}

function failed(what, error) {
  return make(
    "p",
    { class: "problem", role: "alert" },
    `${what} can't be shown: ${error.message}.`,
  );
}

function dayCell(day, found) {
  const runs =
    found === undefined ? "no run" : `${stateOf(found.state).word}, ${several(found.runs, "run")}`;
  const label = `${dayName(day)}: ${runs}`;
  const date = new Date(`${day}T00:00:00Z`);
  const isFirst = date.getUTCDate() === 1;
  return make(
    "li",
    { title: label, class: isFirst && "first" },
    make("span", { class: "unseen" }, label),
    dayShape(found?.state ?? "none"),
    make("span", { class: "number", "aria-hidden": "true" }, String(date.getUTCDate())),
  );
}
