# What integration-tests/servers.toml says of the test servers. To be sourced, with `root` set.

readonly servers=$root/integration-tests/servers.toml

# A row need not have an official image: then it is asked for none.
image_exists() {
    [[ -n $1 ]] && docker image inspect "$1" >/dev/null 2>&1
}

row_names() {
    sed -n 's/^name = "\(.*\)"$/\1/p' "$servers"
}

# One string of one row. The file is ours, so lines of the form `key = "value"` are all there is.
row_field() {
    awk -v name="$1" -v key="$2" '
        $1 == "[[server]]" { row = "" }
        $1 == "name" { row = $3 }
        row == "\"" name "\"" && $1 == key { sub(/^[^=]*= /, ""); gsub(/"/, ""); print }
    ' "$servers"
}
