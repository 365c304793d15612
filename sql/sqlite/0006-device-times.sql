-- When a device was made and last used, in milliseconds since 1970 UTC; 0: before this was noted. A new device need not
-- read the cursors of devices that cannot be ahead, and of very many devices the least recently used are forgotten.
ALTER TABLE device ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
