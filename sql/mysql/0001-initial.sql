-- The shared store's first schema, for MySQL 8 and MariaDB 10.6 or later. Names, devices and mids are bytes (VARBINARY),
-- because collations equate what must differ. No foreign keys: conversations and users may lie on different shards.
-- Statements end with a semicolon at the end of a line; each may be run again.

CREATE TABLE IF NOT EXISTS setting (
  name  VARBINARY(64)   NOT NULL PRIMARY KEY,
  value VARBINARY(1024) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS user (
  id          BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name        VARBINARY(200) NOT NULL,
  password    VARBINARY(255) NOT NULL,            -- argon2id, PHC string
  token_epoch INT            NOT NULL DEFAULT 0,  -- tokens of another epoch are void
  UNIQUE KEY user_name (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- One row per (user, device name); the log-in with the higher epoch owns the device.
CREATE TABLE IF NOT EXISTS device (
  id      BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
  user_id BIGINT         NOT NULL,
  name    VARBINARY(768) NOT NULL,
  epoch   BIGINT         NOT NULL DEFAULT 0,
  boot    VARBINARY(36)  NOT NULL,                -- where this epoch is online; '' once it has ended
  changed DATETIME(6)    NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
  UNIQUE KEY device_user (user_id, name),
  KEY device_boot (boot, user_id),
  KEY device_changed (changed, user_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS friend (
  user_id   BIGINT NOT NULL,
  friend_id BIGINT NOT NULL,
  PRIMARY KEY (user_id, friend_id),
  KEY friend_listed_by (friend_id, user_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS chat_group (
  id          BIGINT          NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name        VARBINARY(200)  NOT NULL,
  description VARBINARY(1024) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- A log of messages and events: of two users (kind 0, lo <= hi) or of a group (kind 1, lo = its id, hi = 0).
CREATE TABLE IF NOT EXISTS conversation (
  id         BIGINT  NOT NULL AUTO_INCREMENT PRIMARY KEY,
  kind       TINYINT NOT NULL,
  lo         BIGINT  NOT NULL,
  hi         BIGINT  NOT NULL,
  last_seq   BIGINT  NOT NULL DEFAULT 0,
  member_ver BIGINT  NOT NULL DEFAULT 0,          -- incremented with each change of `member`
  UNIQUE KEY conversation_name (kind, lo, hi),
  KEY conversation_hi (kind, hi)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

CREATE TABLE IF NOT EXISTS member (
  conversation BIGINT        NOT NULL,
  user_id      BIGINT        NOT NULL,
  role         VARBINARY(16) NOT NULL,            -- creator, admin, normal
  join_seq     BIGINT        NOT NULL,            -- a member is sent the rows above this
  read_seq     BIGINT        NOT NULL DEFAULT 0,
  PRIMARY KEY (conversation, user_id),
  KEY member_user (user_id, conversation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- How far a conversation has been delivered to a device; without a row: from the beginning, or from the join on.
CREATE TABLE IF NOT EXISTS `cursor` (
  device       BIGINT NOT NULL,
  conversation BIGINT NOT NULL,
  seq          BIGINT NOT NULL,
  PRIMARY KEY (device, conversation)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The log. `seq` counts without gaps within a conversation.
CREATE TABLE IF NOT EXISTS message (
  conversation BIGINT         NOT NULL,
  seq          BIGINT         NOT NULL,
  kind         SMALLINT       NOT NULL,           -- the msgId of its push
  sender       BIGINT         NOT NULL,
  device       BIGINT         NOT NULL,           -- the sender's, to which it is not pushed
  mid          VARBINARY(256) NULL,               -- the sender's own id: a repetition gets the seq of the first
  ts           BIGINT         NOT NULL,           -- milliseconds since 1970 UTC
  size         INT            NOT NULL,           -- of `body` in bytes, to bound pages without reading it
  body         MEDIUMTEXT     NOT NULL,           -- a chat's text; an event's fields as JSON
  PRIMARY KEY (conversation, seq),
  UNIQUE KEY message_mid (conversation, sender, mid)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The living instances: leases by this database's clock. Whoever finds one expired removes it and fences its lanes.
CREATE TABLE IF NOT EXISTS instance (
  boot    VARBINARY(36)  NOT NULL PRIMARY KEY,    -- a start of a server
  address VARBINARY(255) NOT NULL,                -- its host and port, for people
  expires DATETIME(6)    NOT NULL                 -- UTC
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The connections of each boot, so that those of a paused one can be ended with the row locks they hold.
CREATE TABLE IF NOT EXISTS link (
  conn_id BIGINT        NOT NULL PRIMARY KEY,
  boot    VARBINARY(36) NOT NULL,
  KEY link_boot (boot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- Each lane of a boot commits one batch after the other; a fenced lane commits no more. Lane -1 has no batches: the
-- boot's other transactions only look there whether they are fenced.
CREATE TABLE IF NOT EXISTS lane (
  boot   VARBINARY(36) NOT NULL,
  lane   INT           NOT NULL,
  batch  BIGINT        NOT NULL DEFAULT 0,
  fenced TINYINT       NOT NULL DEFAULT 0,
  PRIMARY KEY (boot, lane)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- The heads that each batch advanced, for the other instances; rows live 10 minutes.
CREATE TABLE IF NOT EXISTS commit_log (
  boot  VARBINARY(36) NOT NULL,
  lane  INT           NOT NULL,
  batch BIGINT        NOT NULL,
  at    DATETIME      NOT NULL,                   -- UTC
  heads MEDIUMTEXT    NOT NULL,                   -- JSON: [[conversation, name, last seq, member version], …]
  PRIMARY KEY (boot, lane, batch),
  KEY commit_log_at (at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;
