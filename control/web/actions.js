// What people can have done: buttons, questions where work may be lost, and what became of it.

import { planPath, post } from "./api.js";
import { make, setAttribute, setText } from "./dom.js";

const SHOWN_MS = 8_000;

/**
 * Show a message at the edge of the page. Errors stay until they are sent away; what is said about
 * something takes the place of what was said about it before.
 */
function notice(text, { isError = false, stays = isError, about = "" } = {}) {
  const shown = document.getElementById("notices");
  const close = make("button", { class: "plain", "aria-label": "Close this message" }, "Close");
  const element = make(
    "div",
    { class: "notice", role: isError ? "alert" : "status", "data-tone": isError ? "bad" : "good" },
    make("p", {}, text),
    close,
  );
  close.addEventListener("click", () => element.remove());
  element.dataset.about = about;
  for (const other of [...shown.children]) {
    if (about !== "" && other.dataset.about === about) other.remove();
  }
  for (const other of [...shown.children].slice(0, -3)) other.remove();
  shown.append(element);
  if (!stays) setTimeout(() => element.remove(), SHOWN_MS);
}

/** Ask whether to do something that can't be undone. */
function confirmed({ title, text, yes }) {
  const dialog = document.getElementById("ask");
  setText(document.getElementById("ask-title"), title);
  setText(document.getElementById("ask-text"), text);
  setText(document.getElementById("ask-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  document.getElementById("ask-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/**
 * Make a button. While what it does goes on it does nothing else; that it is only marked so, and
 * not disabled, leaves the focus where it is.
 */
export function button(text, work, { label = null, kind = "" } = {}) {
  const element = make("button", { type: "button", class: kind, "aria-label": label }, text);
  element.addEventListener("click", async () => {
    if (element.getAttribute("aria-disabled") === "true") return;
    setAttribute(element, "aria-disabled", "true");
    try {
      await work();
    } catch (error) {
      if (error.status === undefined) console.error(error);
      if (error.status !== 401) notice(`${label ?? text}: ${error.message}`, { isError: true });
    } finally {
      setAttribute(element, "aria-disabled", null);
    }
  });
  return element;
}

/** The buttons of plans and runs. `done` is called after each; what it returns is waited for. */
export function makeActions(done) {
  async function tell(path, text, options = {}) {
    await post(path);
    notice(text, options);
    await done();
  }

  return {
    run: (plan) =>
      button("Run now", () => tell(planPath(plan, "run"), `${plan}: a backup was asked for.`), {
        label: `Run ${plan} now`,
      }),

    verify: (plan) =>
      button(
        "Verify",
        () => tell(planPath(plan, "verify"), `${plan}: a verification was asked for.`),
        {
          label: `Verify the newest archive of ${plan}`,
        },
      ),

    pause: (plan) =>
      button("Pause", () => tell(planPath(plan, "pause"), `${plan} is paused.`), {
        label: `Pause ${plan}`,
      }),

    resume: (plan) =>
      button("Resume", () => tell(planPath(plan, "resume"), `${plan} runs on schedule again.`), {
        label: `Resume ${plan}`,
      }),

    mount: (plan) =>
      button(
        "Mount",
        async () => {
          const { folder } = await post(planPath(plan, "mount"));
          const about = `mount of ${plan}`;
          notice(`The archives of ${plan} are in ${folder}.`, { stays: true, about });
        },
        { label: `Mount the archives of ${plan}` },
      ),

    umount: (plan) =>
      button(
        "Unmount",
        async () => {
          const question = {
            title: `Unmount the archives of ${plan}?`,
            text: "Programs that read from them will fail.",
            yes: "Unmount",
          };
          if (await confirmed(question)) {
            await tell(planPath(plan, "umount"), `The archives of ${plan} are unmounted.`, {
              about: `mount of ${plan}`,
            });
          }
        },
        { label: `Unmount the archives of ${plan}` },
      ),

    /** `current` tells which run it is when the button is pressed. */
    cancel: (plan, current) =>
      button(
        "Cancel",
        async () => {
          const run = current();
          const isWaiting = run.state === "pending";
          const question = {
            title: `Cancel run ${run.run_id} of ${plan}?`,
            text: isWaiting
              ? "It has not started. The next one starts on schedule."
              : "What it has done so far is lost. Archives that are there stay.",
            yes: "Cancel the run",
          };
          if (await confirmed(question)) {
            await tell(`/api/runs/${run.run_id}/cancel`, `Run ${run.run_id} ends.`);
          }
        },
        { label: `Cancel the run of ${plan}`, kind: "cancel" },
      ),
  };
}
