-- Takes, renews or gives up a lease. Its value is the token, a line's end, and who holds it; it expires by itself.
-- KEYS: lease. ARGV: 'acquire', 'renew' or 'release'; token; milliseconds; holder.
-- Answers 1 if the token has (or had) the lease, else 0. May be sent again.
local token = ARGV[2] .. '\n'
local held = redis.call('GET', KEYS[1])
local mine = held and string.sub(held, 1, #token) == token
if ARGV[1] == 'acquire' and not held then
  mine = true
end
if not mine then
  return 0
end
if ARGV[1] == 'release' then
  redis.call('DEL', KEYS[1])
elseif ARGV[1] == 'renew' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], token .. ARGV[4], 'PX', ARGV[3])
end
return 1
