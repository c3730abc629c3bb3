-- Takes a partition over: from here on only this claim's epoch may write.
-- KEYS: meta. ARGV: format, owner.
-- Answers {'claimed', fields of meta} or {'newer', format}.
local stored = redis.call('HMGET', KEYS[1], 'format', 'owner', 'epoch')
if tonumber(stored[1] or 0) > tonumber(ARGV[1]) then
  return {'newer', stored[1]}
end
-- A call that is sent again after a lost reply is the same claim.
if stored[2] ~= ARGV[2] then
  -- The clock keeps epochs apart even where the server lost its last writes, and with them an epoch given out.
  local now = redis.call('TIME')
  local epoch = math.max(tonumber(stored[3] or 0) + 1, now[1] * 1000000 + now[2])
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'owner', ARGV[2], 'epoch', string.format('%.0f', epoch))
end
return {'claimed', redis.call('HGETALL', KEYS[1])}
