-- Turns the breaker into a state, because an operator says so.
--
-- ARGV  2 state
-- Returns the state.

enter(ARGV[2])
return state()
