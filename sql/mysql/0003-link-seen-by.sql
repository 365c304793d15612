-- SHOW PROCESSLIST lists the connections of its reader's account and server: others cannot conclude anything from it.
ALTER TABLE link ADD COLUMN seen_by VARBINARY(768) NOT NULL DEFAULT '';  -- account, host and port; '': unknown
