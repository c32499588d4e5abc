-- The load of benchmarks/load.py: one text a request, in the order of the file, again and again.
-- Counts every answer that is not 200, and ends with a line of JSON.

local threads = {}
local requests = {}
local place = 0
others = 0

function setup(thread)
   table.insert(threads, thread)
end

function init(arguments)
   local headers = { ["Content-Type"] = "application/json" }
   for body in io.lines(arguments[1]) do
      requests[#requests + 1] = wrk.format("POST", wrk.path, headers, body)
   end
end

function request()
   place = place % #requests + 1
   return requests[place]
end

function response(status)
   if status ~= 200 then
      others = others + 1
   end
end

function done(summary, latency)
   local errors = summary.errors
   local bad = 0
   for _, thread in ipairs(threads) do
      bad = bad + thread:get("others")
   end
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, '
         .. '"not_ok": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      bad, errors.connect + errors.read + errors.write + errors.timeout))
end
