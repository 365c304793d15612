// Lua scripts on the users' hashes, which map each device to its owner, as boot:epoch. Each handles several users: one
// command costs a third of a pipeline with one command per user.

/** ARGV: boot, TTL in seconds; per user: device, epoch. Sets the device's owner unless a newer one is set. */
export const CLAIM = `
for i, key in ipairs(KEYS) do
  local device, epoch = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local was = redis.call('HGET', key, device)
  if not was or tonumber(string.match(was, ':(%d+)$')) <= tonumber(epoch) then
    redis.call('HSET', key, device, ARGV[1] .. ':' .. epoch)
    redis.call('EXPIRE', key, ARGV[2])
  end
end`;

/** ARGV per user: device, owner. Removes the device's owner if it is this one; returns how many, per user. */
export const RELEASE = `
local found = {}
for i, key in ipairs(KEYS) do
  local device, owner = ARGV[2 * i - 1], ARGV[2 * i]
  found[i] = 0
  if redis.call('HGET', key, device) == owner then found[i] = redis.call('HDEL', key, device) end
end
return found`;

/** Returns per user the owners in the hash. */
export const LOCATE = `
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HVALS', key) end
return found`;
