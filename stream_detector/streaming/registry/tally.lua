-- Keeps what one process has counted of a line's shadow, in place of what it said before, unless that one is over.
-- KEYS: shadows, what was counted of the line's shadow. ARGV: key of the line, shadow, name of the process, its counts.
-- Answers 1 if it was kept, else 0. May be sent again.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
