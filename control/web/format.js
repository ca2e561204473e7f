// Numbers, sizes and times as people read them: words in English, the rest as the reader's locale
// has it. Sizes are as the command line has them.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(undefined, {
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const nearDay = new Intl.DateTimeFormat(undefined, {
  weekday: "short",
  hour: "numeric",
  minute: "2-digit",
});
const farDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const precise = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dayOfUtc = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
  timeZone: "UTC",
});
const shortDayOfUtc = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  timeZone: "UTC",
});

export function count(number) {
  return whole.format(number);
}

/** "1 run", "2 runs". */
export function several(number, one, more = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : more}`;
}

export function bytes(number) {
  let amount = number;
  let unit = -1;
  while (amount >= 1023.95 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return unit < 0 ? `${whole.format(number)} B` : `${tenths.format(amount)} ${UNITS[unit]}`;
}

export function percent(share) {
  const hundredths = Math.max(0, share) * 100;
  return `${(hundredths < 10 ? tenths : whole).format(hundredths)} %`;
}

/** How long something takes: "45 s", "12 min", "3 h 20 min", "2 days 4 h". */
export function duration(seconds) {
  if (seconds < MINUTE) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < HOUR) {
    const rest = Math.floor(seconds % MINUTE);
    const minutes = Math.floor(seconds / MINUTE);
    return minutes < 5 && rest > 0 ? `${minutes} min ${rest} s` : `${minutes} min`;
  }
  if (seconds < DAY) {
    const rest = Math.floor((seconds % HOUR) / MINUTE);
    return `${Math.floor(seconds / HOUR)} h${rest > 0 ? ` ${rest} min` : ""}`;
  }
  const rest = Math.floor((seconds % DAY) / HOUR);
  return `${several(Math.floor(seconds / DAY), "day")}${rest > 0 ? ` ${rest} h` : ""}`;
}

function inWords(seconds) {
  if (seconds < HOUR) return several(Math.max(1, Math.round(seconds / MINUTE)), "minute");
  if (seconds < 36 * HOUR) return several(Math.round(seconds / HOUR), "hour");
  if (seconds < 14 * DAY) return several(Math.round(seconds / DAY), "day");
  if (seconds < 60 * DAY) return several(Math.round(seconds / (7 * DAY)), "week");
  if (seconds < 700 * DAY) return several(Math.round(seconds / (30.44 * DAY)), "month");
  return several(Math.round(seconds / (365.25 * DAY)), "year");
}

/** How long ago something was: "just now", "4 hours ago". */
export function ago(seconds) {
  return seconds < 45 ? "just now" : `${inWords(seconds)} ago`;
}

/** How far away something is: "now", "in 4 hours". */
export function until(seconds) {
  return seconds < 45 ? "now" : `in ${inWords(seconds)}`;
}

/** A time, as short as it is clear: of today the time, of this week the day, else the date. */
export function shortMoment(time_s, now_s) {
  const date = new Date(time_s * 1000);
  const now = new Date(now_s * 1000);
  if (date.toDateString() === now.toDateString()) return timeOnly.format(date);
  return (Math.abs(time_s - now_s) < 6 * DAY ? nearDay : farDay).format(date);
}

export function moment(time_s) {
  return full.format(new Date(time_s * 1000));
}

/** A time with all that there is to it, for those who point at it. */
export function preciseMoment(time_s) {
  return precise.format(new Date(time_s * 1000));
}

export function clockTime(time_s) {
  return clock.format(new Date(time_s * 1000));
}

/** A day of the calendar, which has no time zone any more. */
export function dayName(day, isShort = false) {
  return (isShort ? shortDayOfUtc : dayOfUtc).format(new Date(`${day}T00:00:00Z`));
}
