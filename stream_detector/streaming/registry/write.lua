-- Writes a line's record, with the artifact that it brings along and without those that it drops, or nothing.
-- KEYS: records, champions, lease, artifact that is added, its upload, then the artifacts that are dropped.
-- ARGV: key of the line, checksum of the record that is expected there ('' for none), record, champion ('' for none),
-- token of the lease ('' for none), 'add' or ''.
-- Answers 'written', 'fenced', 'conflict' or 'missing'. May be sent again.
local CHECKSUM = 64
local line, expected, record, champion, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if token ~= '' then
  local held = redis.call('GET', KEYS[3])
  if not held or string.sub(held, 1, #token + 1) ~= token .. '\n' then
    return 'fenced'
  end
end
local stored = string.sub(redis.call('HGET', KEYS[1], line) or '', 1, CHECKSUM)
if stored ~= expected and stored ~= string.sub(record, 1, CHECKSUM) then
  return 'conflict'
end

-- Each artifact has a field for every line that keeps it, and goes with the last of them.
local field = 'line:' .. line
if ARGV[6] == 'add' then
  local uploaded = redis.call('EXISTS', KEYS[5]) == 1
  if not uploaded and redis.call('EXISTS', KEYS[4]) == 0 then
    return 'missing'
  end
  if uploaded then
    -- The first write is one that a full server refuses; after it nothing is refused.
    redis.call('HSET', KEYS[5], field, '')
    for _, other in ipairs(redis.call('HKEYS', KEYS[4])) do
      if string.sub(other, 1, 5) == 'line:' then
        redis.call('HSET', KEYS[5], other, '')
      end
    end
    redis.call('RENAME', KEYS[5], KEYS[4])
    redis.call('PERSIST', KEYS[4])
  else
    redis.call('HSET', KEYS[4], field, '')
  end
end
redis.call('HSET', KEYS[1], line, record)
if champion == '' then
  redis.call('HDEL', KEYS[2], line)
else
  redis.call('HSET', KEYS[2], line, champion)
end
for i = 6, #KEYS do
  redis.call('HDEL', KEYS[i], field)
  if redis.call('HLEN', KEYS[i]) <= tonumber(redis.call('HGET', KEYS[i], 'fields') or 0) then
    redis.call('DEL', KEYS[i])
  end
end
return 'written'
