// All volumes: how old their backups are, what is at work, what needs somebody.

import { arrange, cell, make, name, setAttribute, setText, table } from "./dom.js";
import { ago, bytes, count, several, shortMoment, until } from "./format.js";
import { Mark, Moment, Progress, arrow, empty, planHref, runHref, strip } from "./parts.js";
import { healthOf, isActive, isGood, isOpen } from "./words.js";

const COLUMNS = {
  what: "Volume",
  age: "Last success",
  days: "Last 30 days",
  next: "Next run",
  archives: "Archives",
  act: "Actions",
};

const FILTERS = {
  all: ["All", () => true],
  attention: ["Need attention", (row) => row.health.rank < 2],
  active: ["At work", (row) => isOpen(row.volume.run?.state)],
  paused: ["Paused", (row) => row.volume.is_paused],
};

const byName = (one, two) => one.sortName.localeCompare(two.sortName);
const ORDERS = {
  urgency: [
    "What needs attention",
    (one, two) => one.health.rank - two.health.rank || byName(one, two),
  ],
  name: ["Name", byName],
  age: ["Oldest success", (one, two) => one.success_s - two.success_s || byName(one, two)],
  next: ["Next run", (one, two) => one.next_s - two.next_s || byName(one, two)],
};

/** One volume in the table. */
class Row {
  constructor(app, volume) {
    this.app = app;
    this.sortName = volume.plan;
    this.searched = `${volume.plan} ${volume.source} ${volume.target}`.toLowerCase();
    this.source = make("bdi");
    this.target = make("bdi");
    this.mark = new Mark();
    this.age = new Moment();
    this.next = new Moment();
    this.nextTime = make("span", { class: "second" });
    this.archives = make("span");
    this.size = make("span", { class: "second" });
    this.days = cell("days");
    this.act = cell("act");
    this.more = cell("more");
    this.run = app.actions.run(volume.plan);
    this.cancel = null;
    this.progress = null;
    this.problem = null;
    this.element = make(
      "tr",
      { role: "row" },
      cell(
        "what",
        make("a", { href: planHref(volume.plan), class: "plan-name" }, name(volume.plan)),
        make("span", { class: "second path" }, this.source, arrow(), this.target),
      ),
      cell("age", this.age.element, this.mark.element),
      this.days,
      cell("next", this.next.element, this.nextTime),
      cell("archives", this.archives, this.size),
      this.act,
      this.more,
    );
  }

  update(volume, plan, now_s) {
    this.volume = volume;
    this.health = healthOf(volume, plan, now_s);
    this.success_s = volume.last_success_s ?? 0;
    this.next_s = volume.next_due_s ?? Infinity;
    setText(this.source, volume.source);
    setText(this.target, volume.target);
    const success_s = volume.last_success_s;
    this.age.update(success_s, success_s === null ? "never" : ago(now_s - success_s));
    this.mark.update(this.health);
    setAttribute(this.element, "data-tone", this.health.tone);
    this.updateNext(volume, now_s);
    setText(this.archives, volume.archives === 0 ? "none" : several(volume.archives, "archive"));
    const last = volume.last;
    const isMade = last !== null && isGood(last.state) && last.archive_bytes > 0;
    setText(this.size, isMade ? `last ${bytes(last.archive_bytes)}` : "");
    this.updateWork(volume, now_s);
    this.updateProblem(volume);
    this.more.hidden = this.more.childElementCount === 0;
  }

  updateNext(volume, now_s) {
    const due_s = volume.next_due_s;
    const isDue = due_s !== null && !volume.is_paused;
    const none = volume.is_paused ? "none" : "not scheduled";
    this.next.update(isDue ? due_s : null, isDue ? until(due_s - now_s) : none);
    setText(
      this.nextTime,
      isDue ? shortMoment(due_s, now_s) : volume.is_paused ? "while paused" : "",
    );
  }

  updateWork(volume, now_s) {
    const run = volume.run;
    const isAtWork = run !== null && isOpen(run.state);
    if (isAtWork && this.cancel === null) {
      this.cancel = this.app.actions.cancel(volume.plan, () => this.volume.run);
    }
    const wanted = isAtWork ? this.cancel : this.run;
    const isFocused = this.act.contains(document.activeElement);
    arrange(this.act, [wanted]);
    if (isFocused && document.activeElement !== wanted) wanted.focus();
    if (isAtWork) setAttribute(this.cancel, "aria-disabled", run.state === "cancelling" || null);

    if (isAtWork && this.progress === null) {
      this.progress = new Progress(volume.plan);
      this.more.prepend(this.progress.element);
    } else if (!isAtWork && this.progress !== null) {
      this.progress.element.remove();
      this.progress = null;
    }
    this.progress?.update(run, volume.progress, now_s);
  }

  updateProblem(volume) {
    const last = volume.last;
    const isProblem = this.health.tone !== "good" && last !== null && last.message !== "";
    if (!isProblem) {
      this.problem?.remove();
      this.problem = null;
      return;
    }
    if (this.problem === null) {
      this.problemText = make("bdi");
      this.log = make("a", {}, "log");
      this.problem = make("p", { class: "problem" }, this.problemText, " ", this.log);
      this.more.append(this.problem);
    }
    setText(this.problemText, last.message);
    setAttribute(this.log, "href", runHref(last.run_id));
    setAttribute(this.log, "aria-label", `log of run ${last.run_id}`);
  }

  showDays(calendar) {
    const found = calendar.plans[this.volume.plan] ?? [];
    const key = JSON.stringify(found) + calendar.days.at(-1);
    if (key === this.daysKey) return;
    this.daysKey = key;
    this.days.replaceChildren(strip(calendar.days, found));
  }
}

/** The page of all volumes. What is shown of them, and in which order, stands in the address. */
export function overviewPage(app, asked) {
  const rows = new Map();
  const made = table("Volumes", "volumes", COLUMNS);
  let filter = Object.hasOwn(FILTERS, asked.get("show")) ? asked.get("show") : "all";
  let shownCalendar = null;

  const chips = {};
  for (const [key, [word]] of Object.entries(FILTERS)) {
    const number = make("span", { class: "number" });
    const chip = make(
      "button",
      { type: "button", "aria-pressed": String(key === filter) },
      word,
      " ",
      number,
    );
    chip.addEventListener("click", () => {
      filter = key;
      keepPlace();
      for (const [other, each] of Object.entries(chips)) {
        setAttribute(each.chip, "aria-pressed", String(other === key));
      }
      show();
    });
    chips[key] = { chip, number };
  }
  const search = make("input", {
    type: "search",
    id: "search",
    placeholder: "Find a volume",
    "aria-label": "Find a volume by name or path",
    on: { input: () => (keepPlace(), show()) },
  });
  search.value = asked.get("find") ?? "";
  const orders = make("select", {
    "aria-label": "Order of volumes",
    on: { change: () => (keepPlace(), show()) },
  });
  for (const [key, [word]] of Object.entries(ORDERS)) {
    orders.append(make("option", { value: key }, word));
  }
  orders.value = Object.hasOwn(ORDERS, asked.get("order")) ? asked.get("order") : "urgency";
  const tools = make(
    "div",
    { class: "tools" },
    make(
      "div",
      { class: "chips", role: "group", "aria-label": "Which volumes" },
      ...Object.values(chips).map(({ chip }) => chip),
    ),
    search,
    make("label", { class: "order" }, make("span", {}, "First:"), orders),
  );
  const nothing = make("div", { hidden: true });
  tools.hidden = made.element.hidden = true;
  const heading = make("h1", { tabindex: "-1" }, "Volumes");
  const element = make("div", {}, heading, tools, made.element, nothing);

  function keepPlace() {
    const place = new URLSearchParams();
    if (filter !== "all") place.set("show", filter);
    if (orders.value !== "urgency") place.set("order", orders.value);
    if (search.value !== "") place.set("find", search.value);
    history.replaceState(null, "", place.size > 0 ? `#/?${place}` : "#/");
  }

  function show() {
    const words = search.value
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== "");
    const isWanted = FILTERS[filter][1];
    const all = [...rows.values()];
    for (const [key, { number }] of Object.entries(chips)) {
      setText(number, count(all.filter(FILTERS[key][1]).length));
    }
    const shown = all
      .filter((row) => isWanted(row) && words.every((word) => row.searched.includes(word)))
      .sort(ORDERS[orders.value][1]);
    arrange(
      made.body,
      shown.map((row) => row.element),
    );
    tools.hidden = all.length === 0;
    made.element.hidden = shown.length === 0;
    nothing.hidden = shown.length > 0;
    if (shown.length === 0) nothing.replaceChildren(all.length === 0 ? noPlan() : noMatch());
  }

  function noPlan() {
    return empty(
      "No plan yet. Make one on the command line: ",
      make("code", {}, "onggi plan add home /home /backup --every 1d"),
      ".",
    );
  }

  function noMatch() {
    return empty("No volume is like that.");
  }

  function update() {
    const { status, plans, calendar } = app.store;
    const now_s = app.now_s();
    const names = new Set(status.volumes.map((volume) => volume.plan));
    for (const plan of rows.keys()) if (!names.has(plan)) rows.delete(plan);
    let areNew = false;
    for (const volume of status.volumes) {
      let row = rows.get(volume.plan);
      if (row === undefined) {
        row = new Row(app, volume);
        rows.set(volume.plan, row);
        areNew = true;
      }
      row.update(volume, plans.get(volume.plan), now_s);
    }
    if (calendar !== null && (areNew || calendar !== shownCalendar)) {
      for (const row of rows.values()) row.showDays(calendar);
      shownCalendar = calendar;
    }
    show();
  }

  function title() {
    const volumes = app.store.status?.volumes ?? [];
    const bad = volumes.filter((volume) => volume.failures > 0 && !volume.is_paused).length;
    const active = volumes.filter((volume) => isActive(volume.run?.state)).length;
    const parts = [bad > 0 ? `${bad} failing` : "", active > 0 ? `${active} at work` : ""];
    const told = parts.filter((part) => part !== "").join(", ");
    return told === "" ? "Volumes" : `${told} - Volumes`;
  }

  return { element, heading, title, update, close() {} };
}
