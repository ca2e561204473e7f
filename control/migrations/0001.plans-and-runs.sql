-- Plans, runs, archives. Times are seconds since 1970 UTC.
-- depends:

CREATE TABLE plans (
    name TEXT PRIMARY KEY,
    fields TEXT NOT NULL,            -- JSON, as plan_from takes it
    created_s REAL NOT NULL,         -- from which days are counted
    scheduled_s REAL NOT NULL,       -- up to when what was due was looked for
    last_success_s REAL,
    last_run INTEGER,                -- the backup that ended last
    failures INTEGER NOT NULL        -- backups in a row that did not succeed
);

CREATE TABLE targets (
    path TEXT PRIMARY KEY,
    marker TEXT NOT NULL             -- what the marker file in it holds
);

CREATE TABLE runs (
    run_id INTEGER PRIMARY KEY AUTOINCREMENT,
    plan TEXT NOT NULL,
    volume TEXT NOT NULL,            -- the source: of which one run works at a time
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    state TEXT NOT NULL,
    due_s REAL NOT NULL,
    not_before_s REAL NOT NULL,
    started_s REAL,
    ended_s REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    archive TEXT NOT NULL DEFAULT '',
    content_bytes INTEGER NOT NULL DEFAULT 0,
    archive_bytes INTEGER NOT NULL DEFAULT 0,
    findings INTEGER NOT NULL DEFAULT 0,
    verified INTEGER,
    exit_code INTEGER,
    message TEXT NOT NULL DEFAULT ''
);

CREATE INDEX runs_of_plan ON runs (plan, run_id);
CREATE INDEX runs_by_state ON runs (plan, kind, state);
CREATE INDEX runs_that_failed ON runs (run_id) WHERE state IN ('failed', 'lost', 'missed');
CREATE INDEX runs_that_are_open ON runs (due_s) WHERE state IN ('pending', 'running', 'cancelling');

-- What must never be, whatever the code does: two runs at work on a volume, two that wait for the
-- same, two for the same time.
CREATE UNIQUE INDEX one_at_work ON runs (volume) WHERE state IN ('running', 'cancelling');
CREATE UNIQUE INDEX one_that_waits ON runs (plan, kind) WHERE state = 'pending';
CREATE UNIQUE INDEX one_for_a_time ON runs (plan, kind, due_s)
    WHERE reason IN ('schedule', 'made up');

CREATE TABLE archives (
    path TEXT PRIMARY KEY,
    plan TEXT NOT NULL,
    made_s REAL NOT NULL,
    content_bytes INTEGER NOT NULL,
    archive_bytes INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    verified_s REAL,                 -- when it was last proven right
    damaged_s REAL,                  -- when it was found damaged, if that was later
    removed_s REAL
);

CREATE INDEX archives_of_plan ON archives (plan, made_s) WHERE removed_s IS NULL;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL              -- JSON
);
