// One run: what is known of it, how far it is, and its log, which grows while it is at work.

import { get } from "./api.js";
import { make, name, setAttribute, setText } from "./dom.js";
import { bytes, clockTime, count, duration, moment, percent, several } from "./format.js";
import {
  Mark,
  Progress,
  archiveHref,
  facts,
  lastPart,
  momentAgo,
  path,
  planLink,
  sizes,
  tookOf,
} from "./parts.js";
import { Poller } from "./poll.js";
import { isActive, isGood, isOpen, kindOf, reasonOf, stateOf, stepOf } from "./words.js";

const MOST_LINES = 5_000;
const NEAR_END_PX = 40;

/** The page of a run. */
export function runPage(app, run_id) {
  let run = null;
  let facts_s = "";
  let progress = null;

  const heading = make("h1", { tabindex: "-1" }, `Run ${run_id}`);
  const mark = new Mark();
  const lead = make("p", { class: "lead" });
  const buttons = make("div", { class: "buttons" });
  const work = make("div", { class: "work", hidden: true });
  const message = make("p", { class: "end", hidden: true });
  const about = make("div");
  const problem = make("p", { class: "problem", role: "alert", hidden: true });
  const log = new Log(run_id);
  const element = make(
    "div",
    { class: "run" },
    make("p", { class: "up" }, make("a", { href: "#/history" }, "History")),
    heading,
    lead,
    buttons,
    work,
    message,
    problem,
    about,
    make("section", {}, make("h2", {}, "Log"), log.element),
  );

  const poller = new Poller(ask, (error, pause_s) => {
    if (error.status === 0) return; // said at the top of the page already
    setText(problem, `${capital(error.message)}.`);
    problem.hidden = false;
    if (error.status === 404) poller.stop();
    log.element.parentElement.hidden = error.status === 404 && run === null;
  });

  async function ask() {
    const answer = await get(`/api/runs/${run_id}`);
    // The log after the run: what was written before the run ended is there then.
    run = answer.run;
    show(answer.progress);
    await log.read();
    problem.hidden = true;
    if (!isOpen(run.state)) {
      log.end();
      poller.stop();
    }
    return isActive(run.state);
  }

  function show(progressNow) {
    const now_s = app.now_s();
    if (lead.childElementCount === 0) {
      lead.append(mark.element, make("span", {}, `${kindOf(run.kind)} of `, planLink(run.plan)));
      buttons.append(app.actions.cancel(run.plan, () => run));
    }
    mark.update(stateOf(run.state));
    const cancel = buttons.firstElementChild;
    if (!isOpen(run.state) && cancel === document.activeElement) heading.focus();
    buttons.hidden = !isOpen(run.state);
    setAttribute(cancel, "aria-disabled", run.state === "cancelling" || null);
    work.hidden = !isOpen(run.state);
    if (isOpen(run.state)) {
      if (progress === null) {
        progress = new Progress(run.plan);
        work.append(progress.element);
      }
      progress.update(run, progressNow, now_s);
    }
    const isTold = !isOpen(run.state) && run.message !== "";
    message.hidden = !isTold;
    setAttribute(message, "data-tone", stateOf(run.state).tone);
    if (isTold) setText(message, run.message);
    showAbout(now_s);
  }

  function showAbout(now_s) {
    const took = tookOf(run, now_s);
    const key = JSON.stringify(run) + took;
    if (key === facts_s) return;
    facts_s = key;
    const isLater = run.not_before_s > run.due_s && run.state === "pending";
    about.replaceChildren(
      facts([
        ["Why", reasonOf(run.reason)],
        ["Due", momentAgo(run.due_s, now_s)],
        ["Not before", isLater ? moment(run.not_before_s) : null],
        ["Started", run.started_s === null ? null : momentAgo(run.started_s, now_s)],
        [run.ended_s === null ? "At work for" : "Took", took],
        ["Attempt", run.attempt > 1 ? count(run.attempt) : null],
        ["Archive", archiveOf()],
        ["Size", sizes(run)],
        ["Findings", run.findings > 0 ? count(run.findings) : null],
        ["Verified", verifiedOf()],
        ["Exit code", run.exit_code === null ? null : String(run.exit_code)],
      ]),
    );
  }

  /** The archive; a link only if it is there as far as the run knows. */
  function archiveOf() {
    if (run.archive === "") return null;
    if (run.kind === "backup" && !isGood(run.state)) return path(lastPart(run.archive));
    const href = archiveHref(run.plan, run.archive);
    return make("a", { href, class: "path" }, name(lastPart(run.archive)));
  }

  function verifiedOf() {
    if (run.archive === "" || run.verified === null) return null;
    return run.verified ? "yes, it was proven right" : "no, it was not proven right";
  }

  poller.now();
  return {
    element,
    heading,
    title: () => (run === null ? `Run ${run_id}` : `Run ${run_id}, ${stateOf(run.state).word}`),
    update() {},
    close() {
      poller.stop();
      log.isClosed = true;
    },
  };
}

/** A log; follows its end while one looks at that. */
class Log {
  constructor(run_id) {
    this.run_id = run_id;
    this.next = 0;
    this.isCut = false;
    this.isClosed = false;
    this.passing = null;
    this.lines = make("ol", { class: "lines" });
    this.scroller = make(
      "div",
      {
        class: "scroller",
        role: "log",
        "aria-live": "off",
        "aria-label": `Log of run ${run_id}`,
        tabindex: "0",
      },
      this.lines,
    );
    this.follow = make("input", { type: "checkbox", checked: true });
    this.note = make("p", { class: "second" }, "Loading.");
    this.control = make("label", { class: "follow" }, this.follow, "Follow");
    this.element = make(
      "div",
      { class: "log" },
      make("div", { class: "above" }, this.note, this.control),
      this.scroller,
    );
    this.scroller.hidden = true;
    this.follow.addEventListener("change", () => this.toEnd());
    this.scroller.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.scroller;
      this.follow.checked = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    });
  }

  /** Read on, as far as it goes. */
  async read() {
    for (;;) {
      const { lines, next } = await get(`/api/runs/${this.run_id}/log?from=${this.next}`);
      const isMore = next !== this.next;
      this.next = next;
      this.add(lines);
      this.say();
      if (!isMore || this.isClosed) break;
    }
  }

  add(lines) {
    const added = document.createDocumentFragment();
    for (const line of lines.slice(-MOST_LINES)) {
      const shown = make(
        "li",
        { "data-tone": toneOf(line) },
        make(
          "time",
          { datetime: new Date(line.time_s * 1000).toISOString() },
          clockTime(line.time_s),
        ),
        make("span", { class: "text" }, textOf(line)),
      );
      // How far it is changes in place, as on a terminal.
      if (this.passing !== null) this.passing.remove();
      this.passing = isEvent(line) && line.type === "progress" ? shown : null;
      added.append(shown);
    }
    if (added.childElementCount === 0) return;
    this.lines.append(added);
    let excess = this.lines.childElementCount - MOST_LINES;
    if (excess > 0 || lines.length > MOST_LINES) this.isCut = true;
    for (; excess > 0; excess -= 1) this.lines.firstElementChild.remove();
    this.scroller.hidden = false;
    this.toEnd();
  }

  toEnd() {
    if (this.follow.checked) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  say() {
    const lines = this.lines.childElementCount;
    if (lines === 0) setText(this.note, "There is nothing in it yet.");
    else if (!this.isCut) setText(this.note, several(lines, "line"));
    else setText(this.note, `The last ${count(lines)} lines. All: onggi logs ${this.run_id}`);
  }

  /** Show that nothing comes any more. */
  end() {
    this.control.hidden = true;
    if (this.lines.childElementCount === 0) setText(this.note, "There is nothing in it.");
  }
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const TONES = { damage: "bad", difference: "warn", warning: "warn" };

function isEvent(line) {
  return line.stream === "event";
}

function toneOf(line) {
  if (line.stream === "master") return "live";
  if (!isEvent(line)) return null;
  if (line.type === "error") return "bad";
  if (line.type === "finding") return TONES[line.severity] ?? "warn";
  if (line.type === "progress") return "idle";
  return line.type === "result" && line.exit_code === 0 ? "good" : null;
}

/** A line of a log in words. What is in it may be anything. */
function textOf(line) {
  if (typeof line.text === "string") return line.text;
  if (!isEvent(line)) return JSON.stringify(line);
  if (line.type === "finding" || line.type === "error") {
    const what = line.type === "error" ? "error" : (line.severity ?? "finding");
    return `${what}: ${line.message ?? JSON.stringify(line)}`;
  }
  if (line.type === "progress" && Number.isFinite(line.content_bytes)) return progressOf(line);
  if (line.type === "result") return resultOf(line);
  if (line.type === "mode" && line.reason) return `mode: ${line.reason}`;
  const { time_s, stream, ...rest } = line;
  return JSON.stringify(rest);
}

function progressOf(event) {
  const done = bytes(event.content_bytes);
  if (!(event.total_bytes > 0)) return `${stepOf(event.phase)}: ${done}`;
  const share = percent(event.content_bytes / event.total_bytes);
  return `${stepOf(event.phase)}: ${share}, ${done} of ${bytes(event.total_bytes)}`;
}

function resultOf(event) {
  const parts = [`${event.command ?? event.step}: done, exit code ${event.exit_code}`];
  if (Number.isFinite(event.content_bytes)) parts.push(bytes(event.content_bytes));
  if (Number.isFinite(event.archive_bytes)) parts.push(`archive ${bytes(event.archive_bytes)}`);
  if (Number.isFinite(event.elapsed_s)) parts.push(duration(event.elapsed_s));
  return parts.join(", ");
}
