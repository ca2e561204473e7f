// Parts of which the pages are made: states, times, progress, calendars, lists of facts.

import { make, makeSvg, name, setAttribute, setText } from "./dom.js";
import {
  ago,
  bytes,
  count,
  dayName,
  duration,
  moment,
  percent,
  preciseMoment,
  several,
  shortMoment,
} from "./format.js";
import { bottleneckOf, stateOf, stepOf } from "./words.js";

/** A tone's shape and a word. `update` shows others. */
export class Mark {
  constructor() {
    this.word = make("span", { class: "word" });
    this.element = make("span", { class: "mark" }, make("span", { class: "shape" }), this.word);
  }

  update({ tone, word }) {
    setAttribute(this.element, "data-tone", tone);
    setText(this.word, word);
    return this;
  }
}

export function stateMark(state) {
  return new Mark().update(stateOf(state)).element;
}

/** A time whose text says less than there is; one who points at it sees the rest. */
export function time(time_s, text) {
  return make(
    "time",
    { datetime: new Date(time_s * 1000).toISOString(), title: preciseMoment(time_s) },
    text,
  );
}

/** A time that may change, or be none. */
export class Moment {
  constructor() {
    this.element = make("time");
    this.time_s = null;
  }

  update(time_s, text) {
    setText(this.element, text);
    if (time_s === this.time_s) return;
    this.time_s = time_s;
    const isSome = time_s !== null;
    setAttribute(this.element, "datetime", isSome ? new Date(time_s * 1000).toISOString() : null);
    setAttribute(this.element, "title", isSome ? preciseMoment(time_s) : null);
  }
}

export function momentAgo(time_s, now_s) {
  return time(time_s, `${moment(time_s)}, ${ago(now_s - time_s)}`);
}

export const planHref = (plan) => `#/plan/${encodeURIComponent(plan)}`;
export const runHref = (run_id) => `#/run/${run_id}`;
// A path that is no Unicode can't stand in an address: its link says that there is no such archive.
export const archiveHref = (plan, path) =>
  `${planHref(plan)}/archive/${encodeURIComponent(path.toWellFormed())}`;
export const historyHref = (plan, isFailed) => {
  const asked = new URLSearchParams();
  if (plan !== "") asked.set("plan", plan);
  if (isFailed) asked.set("failed", "1");
  return asked.size > 0 ? `#/history?${asked}` : "#/history";
};

export function planLink(plan) {
  return make("a", { href: planHref(plan), class: "plan-name" }, name(plan));
}

export function lastPart(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** How far a run is: a bar, and figures in words. */
export class Progress {
  constructor(plan) {
    this.fill = make("div", { class: "fill" });
    this.bar = make(
      "div",
      { class: "bar", role: "progressbar", "aria-label": `progress of ${plan}` },
      this.fill,
    );
    this.figures = make("p", { class: "figures" });
    this.element = make("div", { class: "progress" }, this.bar, this.figures);
  }

  update(run, progress, now_s) {
    const parts = [];
    let share = null;
    if (run.state === "pending") {
      const isLater = run.not_before_s > now_s + 1;
      parts.push(run.attempt > 0 ? `waiting for attempt ${run.attempt + 1}` : "waiting to start");
      if (isLater) parts.push(`not before ${shortMoment(run.not_before_s, now_s)}`);
      if (run.message !== "") parts.push(run.message);
    } else if (progress === null) {
      parts.push(run.state === "cancelling" ? "being cancelled" : "starting");
    } else {
      if (progress.total_bytes !== null) {
        share = progress.total_bytes > 0 ? progress.content_bytes / progress.total_bytes : 1;
        share = Math.min(Math.max(share, 0), 1);
      }
      parts.push(...this.figuresOf(run, progress, share));
    }
    this.element.classList.toggle("waits", run.state === "pending");
    this.bar.classList.toggle("unknown", share === null);
    setAttribute(this.bar, "aria-valuenow", share === null ? null : Math.floor(share * 100));
    this.fill.style.setProperty("--done", share ?? 0);
    setText(this.figures, parts.join(" \u00b7 "));
  }

  figuresOf(run, progress, share) {
    const parts = [run.state === "cancelling" ? "being cancelled" : stepOf(progress.step)];
    if (share !== null) parts.push(percent(share));
    parts.push(
      progress.total_bytes === null
        ? bytes(progress.content_bytes)
        : `${bytes(progress.content_bytes)} of ${bytes(progress.total_bytes)}`,
    );
    if (progress.bytes_per_s > 0) parts.push(`${bytes(Math.round(progress.bytes_per_s))}/s`);
    if (progress.left_s !== null) parts.push(`${duration(progress.left_s)} left`);
    const bottleneck = bottleneckOf(progress.bottleneck);
    if (bottleneck !== "") parts.push(bottleneck);
    return parts;
  }
}

// --- calendars -----------------------------------------------------------------------------------

const CELL = 8;
const HIGH = 20;

// Each state has a shape of its own, which can be told without its colour: [tone, paths].
const SHAPES = {
  succeeded: (x) => ["good", bar(x, 11)],
  warned: (x) => ["warn", bar(x, 7) + `M${x} ${HIGH - 16}h6v6h-6z`],
  failed: (x) => ["bad", bar(x, HIGH)],
  lost: (x) => ["bad", bar(x, HIGH)],
  missed: (x) => ["bad", `M${x} 0h6v${HIGH}h-6zM${x + 1.5} 1.5v${HIGH - 3}h3v-${HIGH - 3}z`],
  cancelled: (x) => ["idle", bar(x, 6)],
};

function bar(x, high) {
  return `M${x} ${HIGH - high}h6v${high}h-6z`;
}

/** A day of the calendar, as a picture of one cell. */
export function dayShape(state) {
  const [tone, path] = (SHAPES[state] ?? nothing)(0);
  return makeSvg(
    "svg",
    {
      viewBox: `0 0 6 ${HIGH}`,
      preserveAspectRatio: "none",
      class: "day-shape",
      "aria-hidden": "true",
    },
    makeSvg("path", { d: path, "data-tone": tone }),
  );
}

function nothing(x) {
  return ["none", `M${x} ${HIGH - 2}h6v2h-6z`];
}

/** The calendar of a plan in one small picture, one path for each tone. */
export function strip(days, found) {
  const states = new Map(found.map((each) => [each.day, each.state]));
  const paths = new Map();
  days.forEach((day, number) => {
    const [tone, path] = (SHAPES[states.get(day)] ?? nothing)(number * CELL);
    paths.set(tone, (paths.get(tone) ?? "") + path);
  });
  const picture = makeSvg("svg", {
    viewBox: `0 0 ${days.length * CELL - 2} ${HIGH}`,
    preserveAspectRatio: "none",
    class: "strip",
    role: "img",
    "aria-label": calendarInWords(days, found),
  });
  for (const [tone, path] of paths) {
    picture.append(makeSvg("path", { d: path, "data-tone": tone }));
  }
  return picture;
}

function calendarInWords(days, found) {
  const counts = new Map();
  for (const { state } of found) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, number]) => `${count(number)} ${stateOf(state).word}`);
  const bad = found.filter(({ state }) => stateOf(state).tone === "bad").slice(-3);
  const which = bad.map(({ day, state }) => `${stateOf(state).word} on ${dayName(day, true)}`);
  const none = days.length - found.length;
  if (none > 0) parts.push(`${count(none)} without a run`);
  return `last ${several(days.length, "day")}: ${[parts.join(", "), ...which].join("; ")}`;
}

/** Which shape means what. */
export function calendarLegend() {
  const legend = make("ul", { class: "legend" });
  for (const state of ["succeeded", "warned", "failed", "missed", "cancelled"]) {
    const word = state === "failed" ? "failed or lost" : stateOf(state).word;
    legend.append(make("li", {}, dayShape(state), word));
  }
  legend.append(make("li", {}, dayShape("none"), "no run"));
  return legend;
}

// --- facts ---------------------------------------------------------------------------------------

/** A list of what is known: pairs of a word, and text or elements; null where nothing is. */
export function facts(pairs) {
  const list = make("dl", { class: "facts" });
  for (const [word, value] of pairs) {
    if (value === null || value === "") continue;
    const values = Array.isArray(value) ? value : [value];
    list.append(make("div", {}, make("dt", {}, word), make("dd", {}, ...values)));
  }
  return list;
}

/** From a source to a target. */
export function arrow() {
  return make("span", { class: "arrow", role: "img", "aria-label": "to" }, "\u2192");
}

export function path(text) {
  return make("bdi", { class: "path" }, text);
}

export function empty(...children) {
  return make("p", { class: "empty" }, ...children);
}

/** "80 GiB of 212 GiB, 38 %", for an archive or the run that made it. */
export function sizes(what) {
  if (what.content_bytes === 0) return what.archive_bytes > 0 ? bytes(what.archive_bytes) : "";
  const share = percent(what.archive_bytes / what.content_bytes);
  return `${bytes(what.archive_bytes)} of ${bytes(what.content_bytes)}, ${share}`;
}

/** How long a run took, or is at work; empty if it did not start. */
export function tookOf(run, now_s) {
  if (run.started_s === null) return "";
  return duration(Math.max(0, (run.ended_s ?? now_s) - run.started_s));
}
