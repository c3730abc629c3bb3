-- Writes all that one step changed in a partition, or nothing.
-- KEYS: meta, outbox, one hash of rows for each profile.
-- ARGV: epoch, step, expected offset ('' for none), next offset, meta, outbox entry ('' for none); then for each
-- profile its field of meta, layout tag, layout, width of a row, number of blocks; and for each block the number
-- of its rows, the sensors' ids, and the rows joined.
-- Answers 'saved', 'repeated', 'fenced' or 'conflict'.
local CHUNK = 128 -- arguments of one HSET; measured best, and far below what unpack can take
local epoch, step, expected, next_offset = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local token = step .. ':' .. expected .. '>' .. next_offset

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'step', 'next_offset', 'token')
if stored[1] ~= epoch then
  return 'fenced'
end
if stored[4] == token then
  return 'repeated'
end
if tonumber(stored[2] or 0) + 1 ~= tonumber(step) or (stored[3] or '') ~= expected then
  return 'conflict'
end

-- Nothing undoes a script that fails midway: a key of a wrong type must be found before the first write. A full
-- server refuses the first write, whichever it is, and none after it.
redis.call('LLEN', KEYS[2])
for k = 3, #KEYS do
  redis.call('HLEN', KEYS[k])
end

local at = 7
for k = 3, #KEYS do
  local field, tag, layout = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local width, blocks = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  at = at + 5
  for _ = 1, blocks do
    local count = tonumber(ARGV[at])
    local block = ARGV[at + count + 1]
    local pieces, n = {}, 0
    for i = 1, count do
      pieces[n + 1] = ARGV[at + i]
      pieces[n + 2] = tag .. string.sub(block, (i - 1) * width + 1, i * width)
      n = n + 2
      if n == CHUNK or i == count then
        redis.call('HSET', KEYS[k], unpack(pieces, 1, n))
        n = 0
      end
    end
    at = at + count + 2
  end
  redis.call('HSETNX', KEYS[1], 'layout:' .. tag, layout)
  redis.call('HSET', KEYS[1], field, redis.call('HLEN', KEYS[k]))
end
if ARGV[6] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[6])
end
redis.call('HSET', KEYS[1], 'meta', ARGV[5], 'step', step, 'next_offset', next_offset, 'token', token)
return 'saved'
