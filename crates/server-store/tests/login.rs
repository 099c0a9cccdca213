//! Credentials: what opens a login, what does not, and what ends it.

use chrono::TimeDelta;
use coditect_protocol::DeviceId;
use coditect_protocol::wire::auth::DeviceInfo;
use coditect_server_store::credential::{
    LoginError, TokenPair, log_out, login_with_license, login_with_password, refresh,
};
use coditect_server_store::identity::Role;
use coditect_server_store::{StoreError, admin};
use coditect_testkit::{TestDb, TestUser};
use uuid::Uuid;

fn device(id: u128) -> DeviceInfo {
    DeviceInfo {
        id: Some(DeviceId::new(Uuid::from_u128(id))),
        ..DeviceInfo::default()
    }
}

async fn with_key(test: &TestDb, key: &str, device: &DeviceInfo) -> Result<TokenPair, LoginError> {
    login_with_license(test.db(), test.secrets(), key, device, test.clock().now()).await
}

async fn with_token(test: &TestDb, token: &str) -> Result<TokenPair, LoginError> {
    refresh(test.db(), test.secrets(), token, test.clock().now()).await
}

async fn one_user() -> (TestDb, TestUser) {
    let test = TestDb::new().await;
    let tenant = test.with_tenant("acme").await;
    let user = test.with_user(&tenant, "ann@acme.test").await;
    (test, user)
}

#[tokio::test]
async fn licence_key_gives_a_token_for_its_tenant_and_user() {
    let (test, ann) = one_user().await;
    let pair = with_key(&test, &ann.license_key, &device(7)).await.unwrap();
    let caller = test
        .secrets()
        .verify(&pair.access_token, test.clock().now())
        .unwrap();
    assert_eq!(caller, pair.caller);
    assert_eq!(caller.tenant().organization(), ann.tenant_id);
    assert_eq!(
        (caller.user_id(), caller.role()),
        (ann.user_id, Role::Member)
    );
    assert_eq!(caller.device_id().get(), Uuid::from_u128(7));
}

#[tokio::test]
async fn wrong_revoked_and_foreign_licence_keys_are_denied() {
    let (test, ann) = one_user().await;
    let other = test.with_tenant("umbrella").await;
    let bob = test.with_user(&other, "bob@umbrella.test").await;
    // The secret of one key behind the tenant and id of another.
    let split = ann.license_key.len() - 43;
    let forged = format!("{}{}", &ann.license_key[..split], &bob.license_key[split..]);
    for key in ["", "cdl_AAAA", &forged, &ann.refresh_token] {
        let outcome = with_key(&test, key, &DeviceInfo::default()).await;
        assert!(matches!(outcome, Err(LoginError::Denied)), "{key}");
    }
    let licenses = admin::list_licenses(test.db(), ann.tenant_id)
        .await
        .unwrap();
    let now = test.clock().now();
    admin::revoke_license(test.db(), ann.tenant_id, licenses[0].license_id, now)
        .await
        .unwrap();
    let outcome = with_key(&test, &ann.license_key, &DeviceInfo::default()).await;
    assert!(matches!(outcome, Err(LoginError::Denied)));
}

#[tokio::test]
async fn person_in_two_tenants_must_name_one() {
    let test = TestDb::new().await;
    let (acme, umbrella) = (
        test.with_tenant("acme").await,
        test.with_tenant("umbrella").await,
    );
    let first = test.with_user(&acme, "Ann@Example.test").await;
    let second = test.with_user(&umbrella, "ann@example.test").await;
    let password = first.password.clone().unwrap();
    assert_eq!(second.password, None);
    let log_in = async |password: &str, tenant| {
        let credentials = ("ANN@example.test ", password);
        let (device, now) = (DeviceInfo::default(), test.clock().now());
        login_with_password(test.db(), test.secrets(), credentials, tenant, &device, now).await
    };
    let Err(LoginError::Ambiguous(choices)) = log_in(&password, None).await else {
        panic!("the login is ambiguous");
    };
    let names: Vec<&str> = choices.iter().map(|choice| choice.name.as_str()).collect();
    assert_eq!(names, ["acme", "umbrella"]);
    for user in [&first, &second] {
        let pair = log_in(&password, Some(user.tenant_id)).await.unwrap();
        assert_eq!(pair.caller.user_id(), user.user_id);
    }
    for tenant in [None, Some(acme.id)] {
        assert!(matches!(
            log_in("wrong", tenant).await,
            Err(LoginError::Denied)
        ));
    }
    let stranger = test.with_tenant("stranger").await;
    assert!(matches!(
        log_in(&password, Some(stranger.id)).await,
        Err(LoginError::Denied)
    ));
}

#[tokio::test]
async fn unknown_e_mail_is_denied_like_a_wrong_password() {
    let (test, _) = one_user().await;
    let (device, now) = (DeviceInfo::default(), test.clock().now());
    let credentials = ("nobody@acme.test", "password");
    let outcome =
        login_with_password(test.db(), test.secrets(), credentials, None, &device, now).await;
    assert!(matches!(outcome, Err(LoginError::Denied)));
}

#[tokio::test]
async fn refresh_token_works_once_and_a_lost_reply_is_forgiven() {
    let (test, ann) = one_user().await;
    let second = with_token(&test, &ann.refresh_token).await.unwrap();
    assert_eq!(second.caller, ann.caller);
    test.clock().advance(TimeDelta::seconds(30));
    let again = with_token(&test, &ann.refresh_token).await.unwrap();
    with_token(&test, &second.refresh_token).await.unwrap();
    test.clock().advance(TimeDelta::seconds(120));
    let third = with_token(&test, &again.refresh_token).await.unwrap();
    // Used long ago: somebody has a copy, so the whole login ends.
    assert!(matches!(
        with_token(&test, &ann.refresh_token).await,
        Err(LoginError::Denied)
    ));
    assert!(matches!(
        with_token(&test, &third.refresh_token).await,
        Err(LoginError::Denied)
    ));
}

#[tokio::test]
async fn refresh_ends_by_time_by_logout_and_by_leaving() {
    let (test, ann) = one_user().await;
    let login = async || {
        with_key(&test, &ann.license_key, &DeviceInfo::default())
            .await
            .unwrap()
    };
    let (timed, logged_out, left) = (login().await, login().await, login().await);
    let now = test.clock().now();
    log_out(test.db(), &logged_out.refresh_token, now)
        .await
        .unwrap();
    log_out(test.db(), "nonsense", now).await.unwrap();
    let outcome = with_token(&test, &logged_out.refresh_token).await;
    assert!(matches!(outcome, Err(LoginError::Denied)));
    let (user, role) = (ann.user_id, Role::Member);
    admin::set_member(test.db(), ann.tenant_id, user, role, false, now)
        .await
        .unwrap();
    assert!(matches!(
        with_token(&test, &left.refresh_token).await,
        Err(LoginError::Denied)
    ));
    admin::set_member(test.db(), ann.tenant_id, user, role, true, now)
        .await
        .unwrap();
    with_token(&test, &left.refresh_token).await.unwrap();
    test.clock().advance(TimeDelta::days(7));
    assert!(matches!(
        with_token(&test, &timed.refresh_token).await,
        Err(LoginError::Denied)
    ));
}

#[tokio::test]
async fn device_id_is_kept_unless_somebody_else_holds_it() {
    let test = TestDb::new().await;
    let (acme, umbrella) = (
        test.with_tenant("acme").await,
        test.with_tenant("umbrella").await,
    );
    let ann = test.with_user(&acme, "ann@acme.test").await;
    let colleague = test.with_user(&acme, "ben@acme.test").await;
    let stranger = test.with_user(&umbrella, "eve@umbrella.test").await;
    let wanted = device(7);
    for _ in 0..2 {
        let pair = with_key(&test, &ann.license_key, &wanted).await.unwrap();
        assert_eq!(Some(pair.caller.device_id()), wanted.id);
    }
    for other in [&colleague, &stranger] {
        let pair = with_key(&test, &other.license_key, &wanted).await.unwrap();
        assert_ne!(Some(pair.caller.device_id()), wanted.id);
    }
}

#[tokio::test]
async fn revoked_device_gets_neither_login_nor_refresh() {
    let (test, ann) = one_user().await;
    let pair = with_key(&test, &ann.license_key, &device(7)).await.unwrap();
    let (id, now) = (pair.caller.device_id(), test.clock().now());
    admin::revoke_device(test.db(), ann.tenant_id, id, now)
        .await
        .unwrap();
    let outcome = with_key(&test, &ann.license_key, &device(7)).await;
    assert!(matches!(outcome, Err(LoginError::DeviceRevoked)));
    let outcome = with_token(&test, &pair.refresh_token).await;
    assert!(matches!(outcome, Err(LoginError::DeviceRevoked)));
    let again = admin::revoke_device(test.db(), ann.tenant_id, id, now).await;
    assert!(matches!(again, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn logins_and_denials_are_in_the_audit_trail() {
    let (test, ann) = one_user().await;
    let (device, now) = (DeviceInfo::default(), test.clock().now());
    let credentials = (ann.email.as_str(), "wrong");
    let outcome =
        login_with_password(test.db(), test.secrets(), credentials, None, &device, now).await;
    assert!(outcome.is_err());
    let client = test.system_client().await;
    let rows = client
        .query_typed(
            "select action from audit_log where user_id is not null order by 1",
            &[],
        )
        .await
        .unwrap();
    let actions: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(actions, ["login", "login_denied"]);
}

#[tokio::test]
async fn first_start_makes_one_tenant_that_can_log_in() {
    let test = TestDb::new().await;
    let now = test.clock().now();
    let made = admin::bootstrap(test.db(), now).await.unwrap().unwrap();
    assert!(admin::bootstrap(test.db(), now).await.unwrap().is_none());
    assert_eq!(
        admin::find_tenant(test.db(), "default").await.unwrap(),
        made.tenant_id
    );
    let device = DeviceInfo::default();
    let pair = with_key(&test, &made.license_key, &device).await.unwrap();
    assert_eq!(
        (pair.caller.user_id(), pair.caller.role()),
        (made.user_id, Role::Owner)
    );
    let credentials = (made.email.as_str(), made.password.as_str());
    login_with_password(test.db(), test.secrets(), credentials, None, &device, now)
        .await
        .unwrap();
    let found = admin::find_user(test.db(), made.tenant_id, &made.email)
        .await
        .unwrap();
    assert_eq!(found, made.user_id);
}

#[tokio::test]
async fn person_is_added_to_a_tenant_once() {
    let (test, ann) = one_user().await;
    let now = test.clock().now();
    let again =
        admin::create_user(test.db(), ann.tenant_id, "ANN@acme.test", Role::Admin, now).await;
    assert!(
        matches!(again, Err(StoreError::Conflict { .. })),
        "{again:?}"
    );
}
