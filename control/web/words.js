// What states mean: a word, and a tone, which is what has a colour and a shape.
//
// Tones: good, warn, bad, live (at work), idle.

import { several } from "./format.js";

const STATES = {
  pending: ["idle", "waiting"],
  running: ["live", "running"],
  cancelling: ["live", "being cancelled"],
  succeeded: ["good", "succeeded"],
  warned: ["warn", "with warnings"],
  failed: ["bad", "failed"],
  cancelled: ["idle", "cancelled"],
  missed: ["bad", "missed"],
  lost: ["bad", "lost"],
};

const KINDS = { backup: "backup", verify: "verification", prune: "removal of old archives" };
const REASONS = {
  schedule: "on schedule",
  manual: "asked for",
  "made up": "made up for one before",
  "after backup": "after a backup",
};
const STEPS = {
  pack: "packing",
  verify: "verifying",
  unpack: "restoring",
  compare: "comparing",
};
const BOTTLENECKS = {
  read: "reading is the bottleneck",
  compress: "compression is the bottleneck",
  write: "writing is the bottleneck",
  held: "held to its limit",
};
const RULES = {
  last: "last",
  hourly: "hourly",
  daily: "daily",
  weekly: "weekly",
  monthly: "monthly",
  yearly: "yearly",
};
const PERIOD_S = { h: 3_600, d: 86_400, w: 604_800 };
const PERIODS = { h: "hour", d: "day", w: "week" };

export function stateOf(state) {
  const [tone, word] = STATES[state] ?? ["idle", state];
  return { tone, word };
}

export function isActive(state) {
  return state === "running" || state === "cancelling";
}

export function isOpen(state) {
  return state === "pending" || isActive(state);
}

export function isGood(state) {
  return state === "succeeded" || state === "warned";
}

export const kindOf = (kind) => KINDS[kind] ?? kind;
export const reasonOf = (reason) => REASONS[reason] ?? reason;
export const stepOf = (step) => STEPS[step] ?? step;
export const bottleneckOf = (stage) => BOTTLENECKS[stage] ?? "";

function periodOf(plan) {
  const found = /^(\d+)([hdw])$/.exec(plan?.every ?? "");
  return found ? { number: Number(found[1]), unit: found[2] } : null;
}

/** When a plan is due, in words. */
export function scheduleOf(plan) {
  if (plan.cron !== "") return `cron ${plan.cron}, ${plan.timezone}`;
  const period = periodOf(plan);
  if (period === null) return "only when asked for";
  const { number, unit } = period;
  const every = number === 1 ? `every ${PERIODS[unit]}` : `every ${number} ${PERIODS[unit]}s`;
  return unit === "h" ? every : `${every} at ${plan.at}, ${plan.timezone}`;
}

/** What is kept of the archives of a plan, in words. */
export function keepOf(keep) {
  const rules = Object.entries(RULES)
    .filter(([rule]) => keep[rule] > 0)
    .map(([rule, word]) => `${keep[rule]} ${word}`);
  if (keep.within_days > 0) rules.push(`all of ${several(keep.within_days, "day")}`);
  return rules.length > 0 ? rules.join(", ") : "all";
}

export function verifyOf(plan) {
  const when = { after: "after each backup", weekly: "weekly", never: "never" }[plan.verify];
  const how = {
    content: "against its digests",
    source: "against the source",
    restore: "by a restore, compared with the source",
  }[plan.verify_by];
  return plan.verify === "never" ? when : `${when ?? plan.verify}, ${how ?? plan.verify_by}`;
}

/**
 * How a volume is: tone, word, and a rank by which those that need somebody come first.
 *
 * `plan` may be unknown yet; then nothing is late.
 */
export function healthOf(volume, plan, now_s) {
  if (volume.is_paused) return { tone: "idle", word: "paused", rank: 4 };
  if (volume.failures > 0) {
    const word = stateOf(volume.last?.state).tone === "bad" ? volume.last.state : "failed";
    const inRow = volume.failures > 1 ? `, ${volume.failures} in a row` : "";
    return { tone: "bad", word: `${word}${inRow}`, rank: 0 };
  }
  if (volume.last_success_s === null) return { tone: "idle", word: "no backup yet", rank: 2 };
  const period = periodOf(plan);
  const age_s = now_s - volume.last_success_s;
  if (period !== null && age_s > 2 * period.number * PERIOD_S[period.unit]) {
    return { tone: "warn", word: "late", rank: 1 };
  }
  if (volume.last?.state === "warned") return { tone: "warn", word: "with warnings", rank: 1 };
  if (volume.last?.state === "cancelled")
    return { tone: "good", word: "last run cancelled", rank: 3 };
  return { tone: "good", word: "succeeded", rank: 3 };
}
