#!/bin/sh
# Makes the certificates of the tests: an authority, and two certificates of 127.0.0.1 and
# localhost that it signed. They protect nothing and are valid for a hundred years.
set -eu
cd "$(dirname "$0")"
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
new_key authority.key
openssl req -x509 -new -key authority.key -days 36500 -subj "/CN=test authority" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -out authority.pem
for name in first second; do
    new_key "$name.key"
    openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
    printf '%s\n' "subjectAltName=IP:127.0.0.1,DNS:localhost" "basicConstraints=CA:FALSE" \
        "extendedKeyUsage=serverAuth" >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA authority.pem -CAkey authority.key -days 36500 \
        -extfile "$name.ext" -out "$name.pem"
    rm "$name.csr" "$name.ext"
done
rm -f authority.key authority.srl
