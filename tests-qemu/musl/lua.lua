-- Words, tables, closures and text of them: small blocks, most of which die soon. The same number gives the same text.
local number, turns = ...
local state = number + 1

local function random(most)
	state = (state * 1103515245 + 12345) & 0x7fffffff
	return (state >> 8) % most + 1
end

local lines = {}
for turn = 1, turns do
	local words, seen = {}, {}
	for i = 1, 200 do
		local word = string.format("%x-%d", random(1 << 20), random(50))
		words[i] = word:rep(random(6))
		seen[word] = { word, i, function() return word .. i end }
	end
	table.sort(words)
	local length = 0
	for _, word in ipairs(words) do
		local one = seen[word]
		length = length + (one and #one[3]() or 1)
	end
	local text = table.concat(words, " "):gsub("%d+", function(digits) return "<" .. #digits .. ">" end)
	lines[#lines + 1] = turn .. " " .. length .. " " .. text:sub(1, 300)
	if #lines > 40 and random(3) == 1 then
		table.remove(lines, random(#lines))
	end
end
return table.concat(lines, "\n")
