-- A list of open connections holds those of its reader's account and server: that one is not in it says nothing to others.
ALTER TABLE link ADD COLUMN seen_by VARBINARY(768) NOT NULL DEFAULT '';  -- account, host and port; '': not known
