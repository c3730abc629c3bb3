-- Drops what has been published from a partition's outbox.
-- KEYS: meta, outbox. ARGV: epoch, end offset up to which entries go.
-- Answers 'trimmed' or 'fenced'. Writes nothing that a full server would refuse.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then
  return 'fenced'
end
local up_to = tonumber(ARGV[2])
while true do
  local entry = redis.call('LINDEX', KEYS[2], 0)
  -- Offsets never fall from one entry to the next, so the first that stays ends the search.
  if not entry or tonumber(string.match(entry, '^%d+')) > up_to then
    return 'trimmed'
  end
  redis.call('LPOP', KEYS[2])
end
