// Asking the server.

const LONGEST_MS = 30_000;

/** What the server, or the way to it, says instead of an answer; the text is for people. */
class ApiError extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

export function get(path) {
  return ask("GET", path);
}

export function post(path, body = {}) {
  return ask("POST", path, body);
}

/** The path of a plan, or of what belongs to it. */
export function planPath(plan, ...rest) {
  return ["/api/plans", encodeURIComponent(plan), ...rest].join("/");
}

async function ask(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  options.signal = AbortSignal.timeout(method === "GET" ? LONGEST_MS : 3 * LONGEST_MS);
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  let found;
  try {
    answer = await fetch(path, options);
    found = await answer.json().catch((error) => {
      if (error instanceof SyntaxError) return null;
      throw error;
    });
  } catch (error) {
    const isSlow = error.name === "TimeoutError";
    throw new ApiError(isSlow ? "the server takes too long" : "the server does not answer", 0);
  }
  if (answer.status === 401) {
    location.replace(`/login${location.hash}`);
    throw new ApiError("the login has ended", 401);
  }
  if (!answer.ok || found === null) {
    throw new ApiError(found?.error ?? `the server has answered ${answer.status}`, answer.status);
  }
  return found;
}
