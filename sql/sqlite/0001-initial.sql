-- The embedded store's first schema. Names, devices and mids compare by bytes (BINARY).

CREATE TABLE setting (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE user (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT NOT NULL UNIQUE,
  password    TEXT NOT NULL,              -- argon2id, PHC string
  token_epoch INTEGER NOT NULL DEFAULT 0  -- tokens of another epoch are void
);

-- One row per (user, device name); the log-in with the higher epoch owns the device.
CREATE TABLE device (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  name    TEXT NOT NULL,
  epoch   INTEGER NOT NULL DEFAULT 0,
  boot    TEXT NOT NULL,                  -- the start of the server that committed this epoch
  UNIQUE (user_id, name)
);

CREATE TABLE friend (
  user_id   INTEGER NOT NULL,
  friend_id INTEGER NOT NULL,
  PRIMARY KEY (user_id, friend_id)
) WITHOUT ROWID;
CREATE INDEX friend_listed_by ON friend (friend_id, user_id);

CREATE TABLE chat_group (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  name        TEXT NOT NULL,
  description TEXT NOT NULL
);

-- A log of messages and events: of two users (kind 0, lo <= hi) or of a group (kind 1, lo = its id, hi = 0).
CREATE TABLE conversation (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       INTEGER NOT NULL,
  lo         INTEGER NOT NULL,
  hi         INTEGER NOT NULL,
  last_seq   INTEGER NOT NULL DEFAULT 0,  -- of the rows in `run`
  member_ver INTEGER NOT NULL DEFAULT 0,  -- incremented with each change of `member`
  UNIQUE (kind, lo, hi)
);
CREATE INDEX conversation_hi ON conversation (kind, hi);

CREATE TABLE member (
  conversation INTEGER NOT NULL,
  user_id      INTEGER NOT NULL,
  role         TEXT NOT NULL,             -- creator, admin, normal
  join_seq     INTEGER NOT NULL,          -- a member is sent the rows above this
  read_seq     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (conversation, user_id)
) WITHOUT ROWID;
CREATE INDEX member_user ON member (user_id, conversation);

-- How far a conversation has been delivered to a device; without a row: from the beginning, or from the join on.
CREATE TABLE cursor (
  device       INTEGER NOT NULL,
  conversation INTEGER NOT NULL,
  seq          INTEGER NOT NULL,
  PRIMARY KEY (device, conversation)
) WITHOUT ROWID;

-- What is committed but not yet folded into `run`, `mid` and `last_seq`: a record per transaction.
CREATE TABLE journal (
  id   INTEGER PRIMARY KEY AUTOINCREMENT,
  rows TEXT NOT NULL
);

-- Runs of consecutive rows of a conversation's log: JSON arrays of
-- [conversation, seq, kind (the msgId of its push), sender, device (the sender's, to which it is not pushed), mid, ts
-- (milliseconds since 1970 UTC), body (a chat's text; an event's fields as JSON)]. See src/db/sqlite-log.ts.
CREATE TABLE run (
  place INTEGER PRIMARY KEY,              -- conversation << 32 | seq of the last row: no index beside the table
  rows  TEXT NOT NULL
);

-- The senders' own ids of their messages: a repetition gets the seq of the first one.
CREATE TABLE mid (
  conversation INTEGER NOT NULL,
  sender       INTEGER NOT NULL,
  mid          TEXT NOT NULL,
  seq          INTEGER NOT NULL,
  PRIMARY KEY (conversation, sender, mid)
) WITHOUT ROWID;

-- The log, row by row, for people.
CREATE VIEW message AS
SELECT value ->> 0 AS conversation, value ->> 1 AS seq, value ->> 2 AS kind, value ->> 3 AS sender,
       value ->> 4 AS device, value ->> 5 AS mid, value ->> 6 AS ts, value ->> 7 AS body
FROM run, json_each(rows)
UNION ALL
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7
FROM journal, json_each(rows)
WHERE value ->> 1 > (SELECT last_seq FROM conversation WHERE id = value ->> 0);
