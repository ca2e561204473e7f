DROP TABLE settings;
DROP TABLE archives;
DROP TABLE runs;
DROP TABLE targets;
DROP TABLE plans;
