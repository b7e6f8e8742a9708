-- The token that all workers share. ARGV: base. Returns {value, version, ms left, ms of life}, '' where there is none.

local now = now_ms()
return has_token(now) and held_token(now) or {'', '', '', ''}
