// What Redis does with users' hashes, in which each device has its owner as boot:epoch. In Lua; each script does it for
// several users, because one command costs a third of the pipeline that asks for each.

/** ARGV: boot, seconds; by user: device, epoch. Sets the device's owner unless a newer one is set. */
export const CLAIM = `
for i, key in ipairs(KEYS) do
  local device, epoch = ARGV[2 * i + 1], ARGV[2 * i + 2]
  local was = redis.call('HGET', key, device)
  if not was or tonumber(string.match(was, ':(%d+)$')) <= tonumber(epoch) then
    redis.call('HSET', key, device, ARGV[1] .. ':' .. epoch)
    redis.call('EXPIRE', key, ARGV[2])
  end
end`;

/** ARGV by user: device, owner. Removes the device's owner, where it is this one; by user: how many it removed. */
export const RELEASE = `
local found = {}
for i, key in ipairs(KEYS) do
  local device, owner = ARGV[2 * i - 1], ARGV[2 * i]
  found[i] = 0
  if redis.call('HGET', key, device) == owner then found[i] = redis.call('HDEL', key, device) end
end
return found`;

/** By user: what the hash holds. */
export const LOCATE = `
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HVALS', key) end
return found`;
