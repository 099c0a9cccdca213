//! Passwords and keys in places that only the text around them tells: options of commands,
//! headers, elements and signed addresses. The group `s` of a pattern is what is replaced.

use super::rules::Need::{Digit, Nothing};
use super::rules::{TokenRule, token};

/// Rules whose pattern names the secret as its group `s`.
pub(super) const COMMANDS: &[TokenRule] = &[
    // mysql -u ann -pSECRET: no blank, or it would ask.
    token(
        "password",
        &["mysql", "mariadb"],
        r#"(?:mysql|mariadb)[a-z-]*(?:\s[^\n|;&]{0,200}?)? -p["']?(?P<s>[^\s"'\\=-][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["sshpass"],
        r#"sshpass +-p *["']?(?P<s>[^\s"'\\]{3,})"#,
        Nothing,
    ),
    token(
        "password",
        &[
            "docker login",
            "podman login",
            "helm registry login",
            "az login",
            "oc login",
        ],
        r#"[a-z]+ (?:registry )?login[^\n|;&]{0,200}? -p[= ]*["']?(?P<s>[^\s"'\\$][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["redis-cli"],
        r#"redis-cli[^\n|;&]{0,200}? (?:-a|--pass) ["']?(?P<s>[^\s"'\\$][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["ldapsearch", "ldapmodify", "ldapadd", "ldapwhoami"],
        r#"ldap[a-z]+[^\n|;&]{0,300}? -w ["']?(?P<s>[^\s"'\\$][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["sqlcmd", "bcp "],
        r#"(?:sqlcmd|bcp)[^\n|;&]{0,300}? -P *["']?(?P<s>[^\s"'\\$][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["mongosh ", "mongo ", "mongodump", "mongorestore"],
        r#"mongo[a-z]*[^\n|;&]{0,300}? -p *["']?(?P<s>[^\s"'\\$][^\s"'\\]{2,})"#,
        Nothing,
    ),
    token(
        "password",
        &["smbclient", "rpcclient"],
        r#"(?:smb|rpc)client[^\n|;&]{0,200}? -U *["']?[^\s"'%]+%(?P<s>[^\s"'\\]{3,})"#,
        Nothing,
    ),
    token(
        "password",
        &["htpasswd "],
        concat!(
            r"htpasswd [^\n|;&]{0,100}?-[a-zA-Z]*b[a-zA-Z]*(?: +[^\s-]\S*){2} +",
            r#"["']?(?P<s>[^\s"'\\]{3,})"#,
        ),
        Nothing,
    ),
    token(
        "password",
        &["unzip ", "zip ", "7z "],
        r#"(?:unzip|zip|7z) [^\n|;&]{0,100}?-[Pp] ?["']?(?P<s>[^\s"'\\.$-][^\s"'\\]{4,})"#,
        Digit,
    ),
    token(
        "password",
        &["pass:"],
        r#"pass:(?P<s>[^\s"'\\,;:]{4,})"#,
        Digit,
    ),
    token(
        "password",
        &["net use "],
        r#"net use [^\n]{0,120}?/user:[^\s]+ ["']?(?P<s>[^\s"'\\]{4,})"#,
        Nothing,
    ),
    token(
        "password",
        &["| sudo -S", "|sudo -S"],
        r#"\| ?sudo -S[^\n]{0,20}?<<< ?["']?(?P<s>[^\s"'\\]{3,})"#,
        Nothing,
    ),
    token(
        "password",
        &["http --auth", "https --auth", "http -a ", "https -a "],
        r#"https? (?:--auth|-a)[= ]["']?[^\s:"']+:(?P<s>[^\s"'\\]{3,})"#,
        Nothing,
    ),
    // The lines of a .netrc file.
    token(
        "password",
        &["machine "],
        r#"machine +\S+(?:\s|\\n)+login +\S+(?:\s|\\n)+password +(?P<s>[^\s"'\\]{3,})"#,
        Nothing,
    ),
    token(
        "secret",
        &["--from-literal="],
        r#"--from-literal=["']?[A-Za-z0-9_.-]+=["']?(?P<s>[^\s"'\\$][^\s"'\\]{3,})"#,
        Nothing,
    ),
    // A line of a Dockerfile, and shells that set variables without a sign between.
    token(
        "secret",
        &["ENV ", "ARG ", "setx ", "set -x ", "set -gx ", "setenv "],
        concat!(
            r"(?:ENV|ARG|setx|set -g?x|setenv) [A-Z0-9_]*",
            r"(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY)[A-Z0-9_]* +",
            r#"["']?(?P<s>[^\s"'\\$<{=][^\s"'\\]{5,})"#,
        ),
        Nothing,
    ),
    token(
        "password",
        &["password>", "passwd>", "passphrase>", "pwd>"],
        r"(?i)(?:password|passwd|passphrase|pwd)>(?P<s>[^<\s$\[{][^<\s]{3,})</",
        Nothing,
    ),
    token(
        "secret",
        &[
            "token>",
            "secret>",
            "apikey>",
            "api_key>",
            "api-key>",
            "secretkey>",
            "accesskey>",
        ],
        r"(?i)(?:token|secret|api[_-]?key|secretkey|accesskey)>(?P<s>[A-Za-z0-9+/=_.~-]{16,})</",
        Digit,
    ),
    token(
        "password",
        &[
            "password\" value=",
            "password\\\" value=",
            "cleartextpassword\" value=",
            "cleartextpassword\\\" value=",
        ],
        r#"(?i)(?:cleartext)?password\\*" value=\\*"(?P<s>[^"\\$%{]{4,})"#,
        Nothing,
    ),
    // Cookies of a session: the header's whole value.
    token(
        "cookie",
        &["cookie:", "cookie\":", "cookie\\\":"],
        r#"(?i)cookie\\*"?: ?\\*["']?(?P<s>[A-Za-z0-9_.%-]+=[^\s"'\\;]{8,}(?:; ?[^\s"'\\;]+)*)"#,
        Nothing,
    ),
    token(
        "signed-url",
        &[
            "X-Amz-Signature=",
            "X-Goog-Signature=",
            "&Signature=",
            "?Signature=",
        ],
        r"(?:[XA-Za-z?&-]+-)?[?&]?Signature=(?P<s>[A-Za-z0-9%/+_~-]{24,}=*)",
        Nothing,
    ),
    token(
        "signed-url",
        &["&sig=", "?sig="],
        r"[&?]sig=(?P<s>[A-Za-z0-9%/+_-]{20,}=*)",
        Nothing,
    ),
    token(
        "okta-token",
        &["SSWS "],
        r"SSWS (?P<s>00[A-Za-z0-9_=-]{38,42})",
        Nothing,
    ),
    token(
        "private-key",
        &["Private-Lines:"],
        r"Private-Lines: ?[0-9]+(?P<s>(?:(?:\\+[rn]|\s)+[A-Za-z0-9+/=]{20,})+)",
        Nothing,
    ),
    token(
        "secret",
        &["\"auth\":", "\\\"auth\\\":"],
        r#"\\*"auth\\*": ?\\*"(?P<s>[A-Za-z0-9+/]{12,}={0,2})\\*""#,
        Nothing,
    ),
];
