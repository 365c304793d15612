// Compare-and-set on a user's hash, in which each device has its owner as boot:epoch. In Lua, run by Redis.

/** Sets the device's owner unless a newer one is set, and returns what was there. */
export const CLAIM = `
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and tonumber(string.match(was, ':(%d+)$')) > tonumber(ARGV[3]) then return was end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return was`;

/** Removes the device's owner, where it is this one. */
export const RELEASE = `
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0`;
