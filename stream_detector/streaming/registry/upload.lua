-- Writes some fields of an upload, which is gone by itself if it is never finished.
-- KEYS: upload. ARGV: seconds until then, field, value, ... May be sent again.
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
