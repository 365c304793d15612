-- A restarted database numbers its connections from the beginning: an id alone may be somebody else's by now.
ALTER TABLE link ADD COLUMN started BIGINT NOT NULL DEFAULT 0;  -- second in which that run of the database began; 0: unknown
