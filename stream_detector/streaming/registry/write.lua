-- Writes a line's record, with the artifact that it brings along and without those that it drops, or nothing.
-- KEYS: records, champions, shadows, what was counted of the line's shadow, lease, artifact that is added, its upload,
-- then the artifacts that are dropped.
-- ARGV: key of the line, checksum of the record that is expected there ('' for none), record, champion ('' for none),
-- shadow ('' for none), token of the lease ('' for none), 'add' or ''.
-- Answers 'written', 'fenced', 'conflict' or 'missing'. May be sent again.
local CHECKSUM = 64
local line, expected, record, champion, shadow, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

if token ~= '' then
  local held = redis.call('GET', KEYS[5])
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
if ARGV[7] == 'add' then
  local uploaded = redis.call('EXISTS', KEYS[7]) == 1
  if not uploaded and redis.call('EXISTS', KEYS[6]) == 0 then
    return 'missing'
  end
  if uploaded then
    -- The first write is one that a full server refuses; after it nothing is refused.
    redis.call('HSET', KEYS[7], field, '')
    for _, other in ipairs(redis.call('HKEYS', KEYS[6])) do
      if string.sub(other, 1, 5) == 'line:' then
        redis.call('HSET', KEYS[7], other, '')
      end
    end
    redis.call('RENAME', KEYS[7], KEYS[6])
    redis.call('PERSIST', KEYS[6])
  else
    redis.call('HSET', KEYS[6], field, '')
  end
end
redis.call('HSET', KEYS[1], line, record)
if champion == '' then
  redis.call('HDEL', KEYS[2], line)
else
  redis.call('HSET', KEYS[2], line, champion)
end
if (redis.call('HGET', KEYS[3], line) or '') ~= shadow then
  redis.call('DEL', KEYS[4])
  if shadow == '' then
    redis.call('HDEL', KEYS[3], line)
  else
    redis.call('HSET', KEYS[3], line, shadow)
  end
end
for i = 8, #KEYS do
  redis.call('HDEL', KEYS[i], field)
  if redis.call('HLEN', KEYS[i]) <= tonumber(redis.call('HGET', KEYS[i], 'fields') or 0) then
    redis.call('DEL', KEYS[i])
  end
end
return 'written'
