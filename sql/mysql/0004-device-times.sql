-- When a device was made, and last used, in milliseconds since 1970 UTC; 0: before this was noted. What is of no use any more
-- to a new device of the same user need not be read for it, and of many devices those not used for the longest are forgotten.
ALTER TABLE device ADD COLUMN made BIGINT NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN used BIGINT NOT NULL DEFAULT 0;
